/**
 * The kernel command line's say about huge pages: transparent_hugepage= and thp_anon=.
 *
 * Entry: applyBootParameters. What cannot be understood changes nothing; the kernel logs a warning and boots on.
 * Rules: ANON-002, ANON-010.
 */

import { HUGE_ORDER, PAGE_SIZE } from "../base/address.ts";
import type { Profile } from "../base/profile.ts";
import {
  ANON_ORDERS,
  ENABLED_VALUES,
  SIZE_VALUES,
  type SizeValue,
  type ThpKnobs,
} from "./knobs.ts";

/** Applies each parameter of `commandLine` in order. */
export function applyBootParameters(knobs: ThpKnobs, commandLine: string, profile: Profile): void {
  for (const word of commandLine.split(/\s+/)) {
    const [name, value] = splitAt(word, "=");
    if (name === "transparent_hugepage") setEnabled(knobs, value, profile);
    else if (name === "thp_anon") setSizes(knobs, value);
  }
}

/** "0" and "2" are the words of 2011 for never and madvise. */
function setEnabled(knobs: ThpKnobs, value: string, profile: Profile): void {
  const numbers: Readonly<Record<string, string>> = { "0": "never", "2": "madvise" };
  const word = profile.numericBootParameter ? (numbers[value] ?? value) : value;
  const known = ENABLED_VALUES.find((candidate) => candidate === word);
  if (known !== undefined) knobs.enabled = known;
}

/** thp_anon=<size>[,<size>][-<size>]:<policy>[;...]: all or nothing; given, 2048kB no longer inherits by default. */
function setSizes(knobs: ThpKnobs, value: string): void {
  const sizes = [...knobs.sizes];
  sizes[HUGE_ORDER] = "never";
  for (const clause of value.split(";")) {
    const [range, word] = splitAt(clause, ":");
    const policy = SIZE_VALUES.find((candidate) => candidate === word);
    if (policy === undefined || !setClause(sizes, range, policy)) return;
  }
  knobs.sizes = sizes;
}

function setClause(sizes: SizeValue[], range: string, policy: SizeValue): boolean {
  for (const part of range.split(",")) {
    const [from, to] = part.includes("-") ? splitAt(part, "-") : [part, part];
    const [first, last] = [orderOf(from), orderOf(to)];
    if (first < 0 || last < first) return false;
    for (let order = first; order <= last; order++) sizes[order] = policy;
  }
  return true;
}

/** Order of a size like "64K" or "2M"; -1 if no anonymous folio has it. Plain numbers are bytes. */
function orderOf(size: string): number {
  const match = /^(\d+)([KMkm]?)$/.exec(size);
  if (match === null) return -1;
  const unit = { "": 1, k: 1024, m: 1024 * 1024 }[match[2].toLowerCase() as "" | "k" | "m"];
  const bytes = Number(match[1]) * unit;
  return ANON_ORDERS.find((order) => PAGE_SIZE << order === bytes) ?? -1;
}

/** Before and after the first `mark`; after is "" if there is none. */
function splitAt(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
