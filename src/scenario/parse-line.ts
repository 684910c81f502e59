/**
 * One line of a scenario file as words with their columns, and the error that points at one of them.
 *
 * Entry: LineReader. Words are separated by blanks; `[...]` and `"..."` keep their blanks; `#` outside quotes ends the line.
 * Units: columns count UTF-16 units from 0.
 */

import { didYouMean } from "../base/nearest.ts";
import { quote } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";

export interface Word {
  readonly text: string;
  readonly column: number;
}

/** Longest part of a line that an error shows. */
const SHOWN = 160;
/** Control characters would move the caret away from its place. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones to be replaced.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

export class LineReader {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly text: string;
  /** Where the comment, or the line, ends. */
  readonly end: number;
  private readonly words: readonly Word[];
  private next = 0;

  /** Reads `text` from column `from` on. Throws UsageError for a bracket or quote that is not closed. */
  constructor(file: string, line: number, text: string, from = 0) {
    this.file = file;
    this.line = line;
    this.text = text;
    const words: Word[] = [];
    let at = from;
    for (;;) {
      while (at < text.length && isBlank(text[at])) at++;
      if (at >= text.length || text[at] === "#") break;
      const end = this.wordEnd(at);
      words.push({ text: text.slice(at, end), column: at });
      at = end;
    }
    this.words = words;
    this.end = at;
  }

  private wordEnd(from: number): number {
    const { text } = this;
    for (let at = from; at < text.length; at++) {
      if (text[at] === '"') at = this.closing(at, '"');
      else if (text[at] === "[") at = this.closing(at, "]");
      else if (text[at] === "#" || isBlank(text[at])) return at;
    }
    return text.length;
  }

  private closing(from: number, mark: string): number {
    for (let at = from + 1; at < this.text.length; at++) {
      if (this.text[at] === "\\" && mark === '"') at++;
      else if (this.text[at] === mark) return at;
    }
    throw this.errorAt(from, "the end of the line", `${mark} that closes this`);
  }

  get isAtEnd(): boolean {
    return this.next >= this.words.length;
  }

  /** The next word without taking it. */
  peek(): Word | undefined {
    return this.words[this.next];
  }

  /** The words that are left, without taking them. */
  rest(): readonly Word[] {
    return this.words.slice(this.next);
  }

  /** Takes the next word; `wanted` says what it should be if there is none. */
  take(wanted: string): Word {
    const word = this.words[this.next];
    if (word === undefined) throw this.errorAt(this.end, "the end of the line", wanted);
    this.next++;
    return word;
  }

  /** Takes the next word if it is `text`. */
  takeIf(text: string): boolean {
    if (this.words[this.next]?.text !== text) return false;
    this.next++;
    return true;
  }

  /** Takes the next word if it is "name:", and gives the name. */
  takeLabel(): Word | undefined {
    const word = this.words[this.next];
    if (word === undefined || !/^[^"[\]=]+:$/.test(word.text)) return undefined;
    this.next++;
    return { text: word.text.slice(0, -1), column: word.column };
  }

  /** Nothing may follow. */
  finish(wanted = "the end of the line"): void {
    const word = this.words[this.next];
    if (word !== undefined) throw this.error(word, wanted);
  }

  /** `word` where `wanted` should be; `offset` characters into it. */
  error(word: Word, wanted: string, offset = 0): UsageError {
    return this.errorAt(word.column + offset, quote(shortened(word.text)), wanted);
  }

  /** As error(), with the nearest of `known` if the word looks like a slip. */
  unknown(word: Word, wanted: string, known: readonly string[]): UsageError {
    return this.error(word, `${wanted}${didYouMean(shortened(word.text), known)}`);
  }

  errorAt(column: number, found: string, wanted: string): UsageError {
    const from = Math.max(0, Math.min(column - SHOWN / 2, this.text.length - SHOWN));
    const text = this.text.slice(from, from + SHOWN).replace(UNPRINTABLE, " ");
    const where = `${this.file}:${this.line}`;
    return new UsageError(where, found, wanted, { text, column: column - from });
  }

  /** Runs `parse` on a part of a word and gives its UsageError this line's place. */
  within<T>(word: Word, offset: number, parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      const column = word.column + offset + (error.excerpt?.column ?? 0);
      throw this.errorAt(column, error.found, error.wanted);
    }
  }
}

function isBlank(character: string): boolean {
  return character === " " || character === "\t";
}

function shortened(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}
