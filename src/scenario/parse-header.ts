/**
 * Header lines of a scenario: `word: TEXT` before the first statement.
 *
 * Entry: HeaderReader; take() for each line, finish() for the result.
 */

import { PROFILES } from "../base/profile.ts";
import type { UsageError } from "../base/usage-error.ts";
import { checkKnob } from "../huge/knob-files.ts";
import { memoryProblem } from "../machine/machine.ts";
import { LineReader, type Word } from "./parse-line.ts";
import { PARKED_KNOBS, PARKED_WANTED } from "./parse-statement.ts";
import { integerOf, keyOf, pagesSize, sizeOf } from "./parse-values.ts";
import type { Header } from "./syntax.ts";

export const HEADER_WORDS = ["scenario", "rules", "on", "machine", "knobs", "swap"] as const;
type HeaderWord = (typeof HEADER_WORDS)[number];

const MACHINE_KEYS = ["memory", "cpus", "nodes", "profile", "seed", "memory_failure"];
const RULE_ID = /^(ANON|COLL|PHYS|PROC|SHM)-\d{3}$/;
const LIVE_PROFILE = PROFILES[0].name;

export const DEFAULT_HEADER: Header = {
  title: "",
  rules: [],
  on: "both",
  machine: {
    memoryBytes: 256 * 2 ** 20,
    nrCpus: 2,
    nrNodes: 1,
    profile: LIVE_PROFILE,
    seed: 1,
    hasMemoryFailure: false,
  },
  knobs: [],
  swapBytes: 0,
};

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class HeaderReader {
  private readonly header: Mutable<Header> = { ...DEFAULT_HEADER };
  private readonly machine: Mutable<Header["machine"]> = { ...DEFAULT_HEADER.machine };
  private readonly knobs: { name: string; value: string }[] = [];
  private readonly seen = new Set<string>();
  /** What is wrong with a knob if the kernel is to have it too. */
  private parked: UsageError | undefined;

  /** The title line: its text is taken as it stands, from column `from` to a comment. */
  takeTitle(file: string, line: number, text: string, from: number): void {
    const comment = text.indexOf("#", from);
    const title = text.slice(from, comment < 0 ? text.length : comment).trim();
    const reader = new LineReader(file, line, text, text.length);
    if (title === "")
      throw reader.errorAt(from, "the end of the line", "one line that says what is shown");
    if (this.seen.has("scenario")) throw reader.errorAt(0, "a second title", "one scenario line");
    this.seen.add("scenario");
    this.header.title = title;
  }

  /** Another header line whose label was taken. */
  take(reader: LineReader, label: Word): void {
    const word = HEADER_WORDS.find((known) => known === label.text);
    if (word === undefined)
      throw reader.unknown(label, "a header line or a process by name", HEADER_WORDS);
    if (word === "scenario") throw reader.error(label, "one scenario line");
    if (this.seen.has(word) && word !== "knobs" && word !== "rules")
      throw reader.error(label, `one ${word} line`);
    this.seen.add(word);
    this.takeWord(reader, word);
    reader.finish();
  }

  private takeWord(reader: LineReader, word: Exclude<HeaderWord, "scenario">): void {
    switch (word) {
      case "rules":
        while (!reader.isAtEnd) this.takeRule(reader);
        return;
      case "on":
        this.header.on = onOf(reader);
        return;
      case "machine":
        do this.takeMachine(reader, reader.take("KEY=VALUE such as memory=64m"));
        while (!reader.isAtEnd);
        return;
      case "knobs":
        do this.takeKnob(reader, reader.take("KNOB=VALUE such as thp.enabled=always"));
        while (!reader.isAtEnd);
        return;
      case "swap":
        this.header.swapBytes = pagesSize(reader, reader.take("a size such as 64m"), 0, 2 ** 32);
    }
  }

  private takeRule(reader: LineReader): void {
    const word = reader.take("a rule ID");
    if (!RULE_ID.test(word.text)) throw reader.error(word, "a rule ID such as ANON-151");
    this.header.rules = [...this.header.rules, word.text];
  }

  private takeMachine(reader: LineReader, word: Word): void {
    const found = keyOf(word);
    const key = found?.key ?? "";
    if (found === undefined || !MACHINE_KEYS.includes(key))
      throw reader.unknown(word, `KEY=VALUE with one of ${MACHINE_KEYS.join(", ")}`, MACHINE_KEYS);
    if (this.seen.has(`machine ${key}`)) throw reader.error(word, `${key} once`);
    this.seen.add(`machine ${key}`);
    const { offset } = found;
    const text = word.text.slice(offset);
    switch (key) {
      case "memory":
        this.machine.memoryBytes = memoryOf(reader, word, offset);
        return;
      case "cpus":
        this.machine.nrCpus = integerOf(reader, word, 1, 64, offset);
        return;
      case "nodes":
        this.machine.nrNodes = integerOf(reader, word, 1, 8, offset);
        return;
      case "seed":
        this.machine.seed = integerOf(reader, word, 0, 2 ** 32 - 1, offset);
        return;
      case "profile": {
        const names = PROFILES.map((profile) => profile.name);
        if (!names.includes(text)) throw reader.error(word, `one of ${names.join(", ")}`, offset);
        this.machine.profile = text;
        return;
      }
      default:
        if (text !== "on" && text !== "off") throw reader.error(word, "on or off", offset);
        this.machine.hasMemoryFailure = text === "on";
    }
  }

  private takeKnob(reader: LineReader, word: Word): void {
    const found = keyOf(word);
    if (found === undefined) throw reader.error(word, "KNOB=VALUE such as thp.enabled=always");
    const value = word.text.slice(found.offset);
    const setting = reader.within(word, 0, () => checkKnob(found.key, value, ""));
    if (PARKED_KNOBS.has(setting.name)) this.parked ??= reader.error(word, PARKED_WANTED);
    this.knobs.push(setting);
  }

  /** The whole header. `line` is the first one that is no header. */
  finish(reader: LineReader): Header {
    if (!this.seen.has("scenario"))
      throw reader.errorAt(
        0,
        "no scenario line",
        "`scenario: what it shows` before the statements",
      );
    const { header, machine, knobs } = this;
    const isLive = machine.profile === LIVE_PROFILE && !machine.hasMemoryFailure;
    const on = isLive ? header.on : "model";
    if (on === "both" && this.parked !== undefined) throw this.parked;
    return { ...header, on, machine, knobs };
  }
}

function onOf(reader: LineReader): "both" | "model" {
  const word = reader.take("model or both");
  if (word.text !== "model" && word.text !== "both") throw reader.error(word, "model or both");
  return word.text;
}

function memoryOf(reader: LineReader, word: Word, offset: number): number {
  const bytes = sizeOf(reader, word, offset);
  const problem = memoryProblem(bytes);
  const most = 64 * 2 ** 30;
  if (problem !== null) throw reader.error(word, problem, offset);
  if (bytes > most) throw reader.error(word, "at most 64g", offset);
  return bytes;
}
