/**
 * Statements of a scenario: one reader per verb.
 *
 * Entry: readStatement. Holds: names are used and made in the order of the lines; a model-only verb in a file that runs on
 *        both is refused here, with its place.
 */

import { checkKnob, KNOBS, READ_ONLY_KNOBS } from "../huge/knob-files.ts";
import { NAME, type ScenarioNames } from "./names.ts";
import type { LineReader, Word } from "./parse-line.ts";
import {
  adviceOf,
  integerOf,
  keyOf,
  pagesSize,
  protOf,
  readSpan,
  readWanted,
  sizeOf,
  spanOf,
  unquoted,
} from "./parse-values.ts";
import {
  type Action,
  MAP_FLAGS,
  type MapFlag,
  MOST_ELEMENTS,
  PIDFD_WORDS,
  type ProcessMadvise,
  type Span,
  type Statement,
  type Wanted,
} from "./syntax.ts";

/** What a line stands in. */
export interface LineContext {
  readonly reader: LineReader;
  readonly names: ScenarioNames;
  readonly on: "both" | "model";
  readonly actor: string;
}

type Verb = Action["verb"];

interface VerbRule {
  readonly read: (c: LineContext, verb: Word) => Action;
  /** What may stand behind "->"; none: the statement cannot fail. */
  readonly gives: "result" | "signal" | "none";
  readonly isModelOnly?: true;
}

const MOST_BYTES = 2 ** 40;
/** A write to one of these would wake the daemon of a live kernel. */
export const PARKED_KNOBS: ReadonlySet<string> = new Set([
  "khugepaged.scan_sleep_millisecs",
  "khugepaged.alloc_sleep_millisecs",
]);
export const PARKED_WANTED = "`khugepaged passes=N` instead: the daemon sleeps but for that";
/** Model-only statements that can be held. */
const HELD_ON_MODEL: ReadonlySet<Verb> = new Set(["poison", "soft-offline", "shrink"]);
const REMAP_FLAGS = ["inplace", "dontunmap", "anywhere"] as const;
const MLOCKALL_FLAGS = ["current", "future", "onfault"] as const;

const VERBS: Readonly<Record<Verb, VerbRule>> = {
  map: { read: readMap, gives: "result" },
  unmap: { read: spanOnly("unmap"), gives: "result" },
  protect: {
    read: ({ reader, names }) => ({
      verb: "protect",
      span: readSpan(reader, names),
      prot: protOf(reader, reader.take("a protection such as r or none")),
    }),
    gives: "result",
  },
  remap: { read: readRemap, gives: "result" },
  brk: { read: readBrk, gives: "result" },
  madvise: { read: readMadvise, gives: "result" },
  "process-madvise": { read: readProcessMadvise, gives: "result" },
  khugepaged: { read: readKhugepaged, gives: "none" },
  read: { read: readTouch("read"), gives: "signal" },
  write: { read: readTouch("write"), gives: "signal" },
  mlock: { read: spanOnly("mlock"), gives: "result" },
  mlock2: {
    read: ({ reader, names }) => ({
      verb: "mlock2",
      span: readSpan(reader, names),
      flags: readFlags(reader, ["onfault"] as const),
    }),
    gives: "result",
  },
  munlock: { read: spanOnly("munlock"), gives: "result" },
  mlockall: {
    read: ({ reader }) => ({ verb: "mlockall", flags: readFlags(reader, MLOCKALL_FLAGS) }),
    gives: "result",
  },
  munlockall: { read: () => ({ verb: "munlockall" }), gives: "result" },
  mseal: { read: spanOnly("mseal"), gives: "result" },
  mincore: { read: spanOnly("mincore"), gives: "result" },
  prctl: { read: readPrctl, gives: "result" },
  fork: { read: readFork, gives: "result" },
  thread: { read: readThread, gives: "none" },
  exit: { read: readExit, gives: "none" },
  pin: { read: readPin("pin"), gives: "result" },
  "hold-page": { read: readPin("hold-page"), gives: "result" },
  release: { read: readRelease, gives: "none" },
  knob: { read: readKnob, gives: "result" },
  memcg: { read: readMemcg, gives: "none" },
  join: {
    read: ({ reader, names }) => ({
      verb: "join",
      name: names.use(reader, "memcg", reader.take("a memory cgroup by name")),
    }),
    gives: "none",
  },
  limit: { read: readLimit, gives: "result" },
  swapon: { read: () => ({ verb: "swapon" }), gives: "result" },
  swapoff: { read: () => ({ verb: "swapoff" }), gives: "result" },
  "drop-caches": { read: () => ({ verb: "drop-caches" }), gives: "none" },
  mark: { read: () => ({ verb: "mark" }), gives: "none" },
  hold: { read: readHold, gives: "none", isModelOnly: true },
  continue: {
    read: ({ reader, names }) => ({
      verb: "continue",
      name: names.resume(reader, reader.take("a task that is held")),
    }),
    gives: "result",
    isModelOnly: true,
  },
  fail: { read: readFail, gives: "none", isModelOnly: true },
  fragment: {
    read: ({ reader }) => ({ verb: "fragment", order: readOrder(reader, 1) }),
    gives: "none",
    isModelOnly: true,
  },
  defragment: { read: () => ({ verb: "defragment" }), gives: "none", isModelOnly: true },
  snapshot: { read: readSnapshot, gives: "none", isModelOnly: true },
  restore: { read: readRestore, gives: "none", isModelOnly: true },
  shrink: { read: readShrink, gives: "none", isModelOnly: true },
  split: { read: readSplit, gives: "result", isModelOnly: true },
  poison: { read: spanOnly("poison"), gives: "result", isModelOnly: true },
  "soft-offline": { read: spanOnly("soft-offline"), gives: "result", isModelOnly: true },
};

/** Every verb, for messages and completion. */
export const VERB_NAMES = Object.keys(VERBS) as readonly Verb[];

/** True if the verb stands only in files that say `on: model`. */
export function isModelOnly(verb: Verb): boolean {
  return VERBS[verb].isModelOnly === true;
}

/** A statement whose actor was read already. */
export function readStatement(context: LineContext): Statement {
  const { reader, on, actor } = context;
  const word = reader.take("a statement such as `map R 2hp`");
  if (!Object.hasOwn(VERBS, word.text)) {
    if (word.text === "seek") throw reader.error(word, "another verb: `seek` is not built yet");
    throw reader.unknown(word, "a verb", [...VERB_NAMES, "expect"]);
  }
  const verb = word.text as Verb;
  if (isModelOnly(verb) && on !== "model")
    throw reader.error(word, "`on: model` in the header: only the model can do this");
  const rule = VERBS[verb];
  const action = rule.read(context, word);
  const wanted = action.verb === "hold" ? undefined : wantedOf(reader, rule);
  reader.finish(rule.gives === "none" ? undefined : "`-> RESULT` or the end of the line");
  if (action.verb === "knob") checkKnobValue(context, action, word, wanted);
  return wanted === undefined
    ? { line: reader.line, actor, action }
    : { line: reader.line, actor, action, wanted };
}

function wantedOf(reader: LineReader, rule: VerbRule): Wanted | undefined {
  return rule.gives === "none" ? undefined : readWanted(reader, rule.gives);
}

type SpanVerb = Extract<
  Action,
  { verb: "unmap" | "munlock" | "mlock" | "mseal" | "mincore" | "poison" | "soft-offline" }
>["verb"];

function spanOnly(verb: SpanVerb) {
  return ({ reader, names }: LineContext): Action => ({ verb, span: readSpan(reader, names) });
}

function readTouch(verb: "read" | "write") {
  return ({ reader, names }: LineContext): Action => ({
    verb,
    span: readSpan(reader, names, "strided"),
  });
}

function readMap({ reader, names }: LineContext): Action {
  const range = reader.take("a name for the range");
  const sizeBytes = pagesSize(reader, reader.take("a size such as 2hp"), 0, MOST_BYTES);
  const options: { at?: Span; skew?: number } = {};
  let prot: string | undefined;
  const flags: MapFlag[] = [];
  for (let word = nextOption(reader); word !== undefined; word = nextOption(reader)) {
    const found = keyOf(word);
    if (found === undefined) {
      flags.push(flagOf(reader, word, MAP_FLAGS, flags, "at=, skew=, prot= or a flag"));
      continue;
    }
    const { key, offset } = found;
    if (key === "at" && options.at === undefined)
      options.at = spanOf(reader, names, word, offset, "whole");
    else if (key === "skew" && options.skew === undefined)
      options.skew = integerOf(reader, word, 0, 511, offset);
    else if (key === "prot" && prot === undefined) prot = protOf(reader, word, offset);
    else throw reader.unknown(word, "at=, skew= or prot=, each once", ["at", "skew", "prot"]);
    if (options.at !== undefined && options.skew !== undefined)
      throw reader.error(word, "at= or skew=, not both");
  }
  const { at, skew = 0 } = options;
  names.define(reader, "range", range);
  const common = { range: range.text, sizeBytes, skewPages: skew, prot: prot ?? "rw", flags };
  return at === undefined ? { verb: "map", ...common } : { verb: "map", ...common, at };
}

function readRemap({ reader, names }: LineContext): Action {
  const span = readSpan(reader, names);
  const to = reader.take("a name for the new place");
  let sizeBytes: number | undefined;
  let at: Span | undefined;
  const flags: (typeof REMAP_FLAGS)[number][] = [];
  for (let word = nextOption(reader); word !== undefined; word = nextOption(reader)) {
    const found = keyOf(word);
    if (found === undefined)
      flags.push(flagOf(reader, word, REMAP_FLAGS, flags, "size=, at= or a flag"));
    else if (found.key === "size" && sizeBytes === undefined)
      sizeBytes = pagesSize(reader, word, found.offset, MOST_BYTES);
    else if (found.key === "at" && at === undefined)
      at = spanOf(reader, names, word, found.offset, "whole");
    else throw reader.unknown(word, "size= or at=, each once", ["size", "at"]);
  }
  names.define(reader, "range", to);
  const size = sizeBytes === undefined ? {} : { sizeBytes };
  return { verb: "remap", span, to: to.text, ...size, ...(at === undefined ? {} : { at }), flags };
}

function readBrk({ reader, names }: LineContext): Action {
  const sizeBytes = sizeOf(reader, reader.take("a size such as 4m"));
  names.defineHeap(reader.line);
  return { verb: "brk", sizeBytes };
}

const RAW_KEYS = ["offset", "length"] as const;

/** `offset=` and `length=` of a raw call. */
interface RawOptions {
  offsetBytes?: number;
  lengthBytes?: number;
}

/** Takes one of them; false if the key is another, or was given already. */
function takeRaw(reader: LineReader, word: Word, options: RawOptions): boolean {
  const found = keyOf(word)!;
  if (found.key === "offset" && options.offsetBytes === undefined) {
    options.offsetBytes = integerOf(reader, word, 0, 4095, found.offset);
    return true;
  }
  if (found.key !== "length" || options.lengthBytes !== undefined) return false;
  const isNegative = word.text[found.offset] === "-";
  const size = sizeOf(reader, word, found.offset + (isNegative ? 1 : 0));
  options.lengthBytes = isNegative && size > 0 ? -size : size;
  return true;
}

function readMadvise({ reader, names }: LineContext): Action {
  const span = readSpan(reader, names);
  const advice = adviceOf(reader, reader.take("an advice such as HUGEPAGE"));
  const raw: RawOptions = {};
  for (let word = nextOption(reader); word !== undefined; word = nextOption(reader))
    if (keyOf(word) === undefined || !takeRaw(reader, word, raw))
      throw reader.unknown(word, "offset=BYTES or length=BYTES, each once", RAW_KEYS);
  return { verb: "madvise", span, advice, ...raw };
}

/** TARGET, spans, ADVICE, options: the advice is the last word without "=". */
function readProcessMadvise({ reader, names }: LineContext): Action {
  const target = readTarget(reader, names);
  const plain: Word[] = [];
  let word = nextOption(reader);
  for (; word !== undefined && keyOf(word) === undefined; word = nextOption(reader))
    plain.push(word);
  const last = plain.pop() ?? reader.take("an advice such as COLLAPSE");
  const spans = plain.map((span) => spanOf(reader, names, span, 0, "whole"));
  const advice = adviceOf(reader, last);
  const raw: RawOptions = {};
  const more: { flags?: number; nrElements?: number; isUnreadable?: true } = {};
  for (; word !== undefined; word = nextOption(reader)) {
    const found = keyOf(word);
    const key = found?.key ?? "";
    const offset = found?.offset ?? 0;
    if (key === "flags" && more.flags === undefined)
      more.flags = integerOf(reader, word, 0, 0xffffffff, offset);
    else if (key === "vlen" && more.nrElements === undefined)
      more.nrElements = integerOf(reader, word, 0, MOST_ELEMENTS, offset);
    else if (word.text === "vector=unreadable") more.isUnreadable = true;
    else if (found === undefined || !takeRaw(reader, word, raw))
      throw reader.unknown(word, "flags=, vlen=, offset=, length= or vector=unreadable", [
        "flags",
        "vlen",
        "vector=unreadable",
        ...RAW_KEYS,
      ]);
  }
  if (spans.length > MOST_ELEMENTS) throw reader.error(plain[0], `at most ${MOST_ELEMENTS} spans`);
  if ((more.nrElements ?? 0) > 0 && spans.length === 0)
    throw reader.error(last, "a span for the elements of the vector, then the advice");
  return {
    verb: "process-madvise",
    target,
    spans,
    advice,
    ...raw,
    ...more,
    flags: more.flags ?? 0,
  };
}

function readTarget(reader: LineReader, names: ScenarioNames): ProcessMadvise["target"] {
  const word = reader.take("a process by name, or pidfd=self");
  const found = keyOf(word);
  if (found === undefined) return { process: names.processOf(names.use(reader, "task", word)) };
  const pidfd = PIDFD_WORDS.find((known) => word.text === `pidfd=${known}`);
  if (pidfd === undefined)
    throw reader.error(word, `pidfd= and one of ${PIDFD_WORDS.join(", ")}`, found.offset);
  return { pidfd };
}

function readKhugepaged({ reader }: LineContext): Action {
  const word = reader.take("passes=N");
  const found = keyOf(word);
  if (found?.key !== "passes") throw reader.error(word, "passes=N");
  return { verb: "khugepaged", nrPasses: integerOf(reader, word, 1, 1000, found.offset) };
}

/** The next word, taken, unless the line ends or the result follows. */
function nextOption(reader: LineReader): Word | undefined {
  const word = reader.peek();
  return word === undefined || word.text === "->" ? undefined : reader.take("");
}

function flagOf<T extends string>(
  reader: LineReader,
  word: Word,
  known: readonly T[],
  given: readonly T[],
  wanted: string,
): T {
  const flag = known.find((candidate) => candidate === word.text);
  if (flag === undefined) throw reader.unknown(word, `${wanted} of ${known.join(" ")}`, known);
  if (given.includes(flag)) throw reader.error(word, `${flag} once`);
  return flag;
}

function readFlags<T extends string>(reader: LineReader, known: readonly T[]): T[] {
  const flags: T[] = [];
  for (let word = nextOption(reader); word !== undefined; word = nextOption(reader))
    flags.push(flagOf(reader, word, known, flags, "a flag"));
  return flags;
}

const THP_DISABLE: Readonly<Record<string, readonly number[]>> = {
  on: [1, 0, 0, 0],
  off: [0, 0, 0, 0],
  "except-advised": [1, 2, 0, 0],
};

function readPrctl({ reader }: LineContext): Action {
  const wanted = "thp-disable, then on, off, except-advised, get or four numbers";
  const word = reader.take(wanted);
  if (word.text !== "thp-disable") throw reader.error(word, wanted);
  const mode = reader.take(wanted);
  const isGet = mode.text === "get";
  const isNumber = /^\d/.test(mode.text);
  if (isGet && !isResultNext(reader))
    return { verb: "prctl", op: "get", args: readArguments(reader, reader.take("four numbers")) };
  if (isGet) return { verb: "prctl", op: "get", args: [0, 0, 0, 0] };
  if (isNumber) return { verb: "prctl", op: "set", args: readArguments(reader, mode) };
  if (!Object.hasOwn(THP_DISABLE, mode.text))
    throw reader.unknown(mode, wanted, [...Object.keys(THP_DISABLE), "get"]);
  return { verb: "prctl", op: "set", args: THP_DISABLE[mode.text] };
}

function isResultNext(reader: LineReader): boolean {
  return reader.isAtEnd || reader.peek()?.text === "->";
}

function readArguments(reader: LineReader, first: Word): number[] {
  const most = Number.MAX_SAFE_INTEGER;
  const args = [integerOf(reader, first, 0, most)];
  while (args.length < 4)
    args.push(integerOf(reader, reader.take("four numbers, for arg2 to arg5"), 0, most));
  return args;
}

function readFork({ reader, names }: LineContext): Action {
  return { verb: "fork", name: names.define(reader, "task", reader.take("a name for the child")) };
}

function readThread({ reader, names, actor }: LineContext): Action {
  const word = reader.take("a name for the thread");
  return { verb: "thread", name: names.define(reader, "task", word, names.processOf(actor)) };
}

function readExit({ reader, names, actor }: LineContext): Action {
  names.endTask(actor, reader.line);
  return { verb: "exit" };
}

function readPin(verb: "pin" | "hold-page") {
  return ({ reader, names }: LineContext): Action => {
    const name = names.define(reader, "pin", reader.take("a name for the reference"));
    const word = reader.peek();
    const span = readSpan(reader, names);
    const isOnePage = span.end === span.first + 1;
    if (verb === "hold-page" && !isOnePage) throw reader.error(word!, "one page such as R[0]");
    return { verb, name, span };
  };
}

function readRelease({ reader, names }: LineContext): Action {
  const name = names.use(reader, "pin", reader.take("a pin by name"));
  names.release(name);
  return { verb: "release", name };
}

function readKnob({ reader }: LineContext): Action {
  const word = reader.take("KNOB=VALUE such as thp.enabled=always");
  const found = keyOf(word);
  if (found === undefined) throw reader.error(word, "KNOB=VALUE such as thp.enabled=always");
  const { key, offset } = found;
  const known = [...KNOBS.map((knob) => knob.name), ...READ_ONLY_KNOBS];
  if (!known.includes(key))
    throw reader.unknown(
      { text: key, column: word.column },
      "a knob of `hugelab list knobs`",
      known,
    );
  return { verb: "knob", name: key, value: unquoted(reader, word, offset) };
}

/** A value that the file would refuse must be meant so: the line says what it gives. */
function checkKnobValue(
  { reader, on }: LineContext,
  action: Extract<Action, { verb: "knob" }>,
  verb: Word,
  wanted: Wanted | undefined,
): void {
  if (wanted !== undefined && wanted !== 0) return;
  const at = reader.text.indexOf(action.name, verb.column + verb.text.length);
  const word = { text: `${action.name}=${action.value}`, column: at };
  reader.within(word, 0, () => checkKnob(action.name, action.value.replace(/\n$/, ""), ""));
  if (on === "both" && PARKED_KNOBS.has(action.name)) throw reader.error(word, PARKED_WANTED);
}

function readMemcg({ reader, names }: LineContext): Action {
  const name = names.define(reader, "memcg", reader.take("a name for the memory cgroup"));
  const word = nextOption(reader);
  if (word === undefined) return { verb: "memcg", name, maxBytes: null };
  const found = keyOf(word);
  if (found?.key !== "max") throw reader.error(word, "max=SIZE");
  return { verb: "memcg", name, maxBytes: pagesSize(reader, word, found.offset, MOST_BYTES) };
}

function readLimit({ reader, names }: LineContext): Action {
  const name = names.use(reader, "memcg", reader.take("a memory cgroup by name"));
  const word = reader.take("a size such as 8m, or none");
  const maxBytes = word.text === "none" ? null : pagesSize(reader, word, 0, MOST_BYTES);
  return { verb: "limit", name, maxBytes };
}

function readHold(context: LineContext): Action {
  const { reader, names } = context;
  const task = reader.take("a task by name");
  const actor = names.useActor(reader, task);
  const at = reader.take("`at PHASE: STATEMENT`");
  if (at.text !== "at") throw reader.error(at, "`at PHASE: STATEMENT`");
  const phase = reader.takeLabel();
  if (phase === undefined || !NAME.test(phase.text)) {
    const found = phase ?? reader.take("the name of a phase and a colon");
    throw reader.error(found, "the name of a phase and a colon");
  }
  const inner = reader.peek();
  const statement = readStatement({ ...context, actor });
  if (!HELD_ON_MODEL.has(statement.action.verb) && isModelOnly(statement.action.verb))
    throw reader.error(inner!, "a system call, a touch, poison, soft-offline or shrink");
  names.hold(actor);
  return { verb: "hold", phase: phase.text, statement };
}

function readFail({ reader }: LineContext): Action {
  const what = reader.take("alloc or charge");
  if (what.text !== "alloc" && what.text !== "charge") throw reader.error(what, "alloc or charge");
  let order: number | undefined;
  let count: number | undefined;
  for (let word = nextOption(reader); word !== undefined; word = nextOption(reader)) {
    const found = keyOf(word);
    if (found?.key === "order" && what.text === "alloc" && order === undefined)
      order = integerOf(reader, word, 0, 10, found.offset);
    else if (found?.key === "count" && count === undefined)
      count = integerOf(reader, word, 1, 1_000_000, found.offset);
    else throw reader.error(word, "order=N (of alloc) or count=N, each once");
  }
  if (what.text === "alloc" && order === undefined) reader.take("order=N");
  return { verb: "fail", what: what.text, order: order ?? 0, count: count ?? 1 };
}

function readOrder(reader: LineReader, low: number): number {
  const word = reader.take("order=N");
  const found = keyOf(word);
  if (found?.key !== "order") throw reader.error(word, "order=N");
  return integerOf(reader, word, low, 10, found.offset);
}

/** One page, whose folio is split. */
function readSplit({ reader, names }: LineContext): Action {
  const word = reader.peek();
  const span = readSpan(reader, names);
  if (span.end !== span.first + 1) throw reader.error(word!, "one page such as R[0]");
  const option = nextOption(reader);
  if (option === undefined) return { verb: "split", span, order: 0 };
  const found = keyOf(option);
  if (found?.key !== "order") throw reader.error(option, "order=N");
  return { verb: "split", span, order: integerOf(reader, option, 0, 8, found.offset) };
}

function readSnapshot({ reader, names }: LineContext): Action {
  const name = names.define(reader, "snapshot", reader.take("a name for the snapshot"));
  names.save(name);
  return { verb: "snapshot", name };
}

function readRestore({ reader, names }: LineContext): Action {
  const name = names.use(reader, "snapshot", reader.take("a snapshot by name"));
  names.restore(name);
  return { verb: "restore", name };
}

function readShrink({ reader }: LineContext): Action {
  const word = nextOption(reader);
  if (word === undefined) return { verb: "shrink", nr: 1 };
  const found = keyOf(word);
  if (found?.key !== "nr") throw reader.error(word, "nr=N");
  return { verb: "shrink", nr: integerOf(reader, word, 1, 1_000_000, found.offset) };
}
