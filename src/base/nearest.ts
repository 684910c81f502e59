/**
 * Words out of a known list: checked, and for a mistyped one the nearest, for "did you mean".
 */

import { quote } from "./units.ts";
import { UsageError } from "./usage-error.ts";

/** The nearest of `known` to `word`, or undefined if none is near enough to be a slip of the keys. */
export function nearestOf(word: string, known: readonly string[]): string | undefined {
  const lower = word.toLowerCase();
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(lower, candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** "; did you mean X?" or nothing. */
export function didYouMean(word: string, known: readonly string[]): string {
  const near = nearestOf(word, known);
  return near === undefined ? "" : `; did you mean ${near}?`;
}

/** `text` if it is one of `known`; else a UsageError that lists them and names the nearest. */
export function oneOf<T extends string>(text: string, known: readonly T[], where: string): T {
  const found = known.find((word) => word === text);
  if (found !== undefined) return found;
  throw new UsageError(where, quote(text), `${inWords(known)}${didYouMean(text, known)}`);
}

function inWords(words: readonly string[]): string {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

/** Insertions, deletions, changes and swaps of neighbours that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(change, last[j] + 1, row[j - 1] + 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (isSwap) row[j] = Math.min(row[j], beforeLast[j - 2] + 1);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length];
}
