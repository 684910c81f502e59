/**
 * Importer of valgrind's lackey text: every access of one process, in order.
 *
 *     valgrind --tool=lackey --trace-mem=yes --trace-syscalls=yes --log-file=NAME.%p PROGRAM
 *
 * Entry: createLackeyImporter; push the file's bytes in chunks of any size (1 MiB is good), then finish.
 * Owns:  the scanner's place, a translation of recently used pages, and which pages were read and written before.
 * Holds: without --trace-syscalls no mapping call is seen and all memory is implied (implied-memory.ts). One file is one
 *        process; its threads are one thread, because valgrind runs them one at a time and does not name them.
 * Units: a tick is an instruction ("I" line); `at` = recorded page (address / 4096).
 *
 * Instruction fetches move time on and are not data accesses. "M" (read and written by one instruction) is one write. The
 * first read of a page counts only if it was not written before, as only then the kernel would see it. Neighbouring
 * accesses to one page become one record.
 */

import { PAGE_SIZE } from "../base/address.ts";
import { UsageError } from "../base/usage-error.ts";
import { type AddressBook, createAddressBook } from "./address-book.ts";
import { type AddressLayout, ensureKnown } from "./implied-memory.ts";
import { LackeyCalls, type PageFates } from "./lackey-calls.ts";
import { PageFlags } from "./page-flags.ts";
import type { TraceReader } from "./reader.ts";
import type { TraceSink } from "./trace-sink.ts";
import { createValidatingSink } from "./validate.ts";

/** A reader of lackey text. `name` is the file as the user knows it. push and finish throw UsageError. */
export function createLackeyImporter(sink: TraceSink, name: string): TraceReader {
  return new LackeyImporter(sink, name);
}

const NEWLINE = 0x0a;
const SPACE = 0x20;
const COMMA = 0x2c;
const LETTER_I = 0x49;
const LETTER_L = 0x4c;
const LETTER_M = 0x4d;
const LETTER_S = 0x53;
const LETTER_F = 0x66;

/** Value of a hexadecimal digit; NO_DIGIT for other bytes. */
const NO_DIGIT = 0x100;
const HEX = Uint16Array.from({ length: 256 }, (_, byte) => {
  const digit = "0123456789abcdef".indexOf(String.fromCharCode(byte));
  return digit < 0 ? NO_DIGIT : digit;
});

/** "I  " + 8 digits + "," + 1 digit: no line of an access is shorter. */
const LEAST_ACCESS = 13;
/** A little more than any access's line, so that reading ahead in one stays within the bytes. */
const LONGEST_USUAL = 32;
const LONGEST_LINE = 1 << 16;
/** "I  " and " ? " as the low bytes of a little-endian word. */
const WORD_INSTRUCTION = 0x202049;
const WORD_DATA = 0x200020;

/** A line of valgrind itself, such as "==123== Lackey, an example Valgrind tool"; or an empty one. */
const IS_VALGRIND_WORD = /^(?:==\d+==|--\d+--|\*\*\d+\*\*|$)/;

/** Ticks between two time records where no call comes between. */
const TICKS_APART = 1 << 16;

/** Bits of a page in `seen`. */
const SEEN_READ = 1;
const SEEN_WRITE = 2;

/** What each letter of an access does to its page; 0 for bytes that are none. */
const ACCESS_BITS = Uint8Array.from({ length: 256 }, (_, byte) => {
  if (byte === LETTER_L) return SEEN_READ;
  return byte === LETTER_S || byte === LETTER_M ? SEEN_WRITE : 0;
});

/** Rows of the translation of recent pages. */
const NR_ROWS = 4096;

const PROCESS = 0;
const THREAD = 0;

/** Valgrind 3.x on amd64: the client's stack, and the area of its loader; the program is below. */
const STACK_TOP = 0x1fff001;
const STACK_PAGES = 2048;
const LOADER_START = 0x4000;
const LOADER_END = 0x4035;

class LackeyImporter implements TraceReader, PageFates {
  private readonly sink: TraceSink;
  /** Behind the checks of `sink`: accesses need none, as each was translated by the book and is in the window. */
  private readonly unchecked: TraceSink;
  private readonly name: string;
  private readonly book: AddressBook;
  private readonly calls: LackeyCalls;
  private readonly layout: AddressLayout;

  /** Start of a line whose end has not come yet. */
  private readonly carry = new Uint8Array(LONGEST_LINE);
  private carryLength = 0;
  /** Offset in the file of byte 0 of the bytes being scanned, and where in them the current line begins. */
  private base = 0;
  private lineStart = 0;
  private hasBegun = false;
  private command: readonly string[] = ["(unknown)"];

  private nrInstructions = 0;
  private toldTick = 0;
  private nrAccesses = 0;

  /** The run of accesses that the next one may extend: page (-1: none), how many, what the first and what any did. */
  private runAt = -1;
  private runCount = 0;
  private runFirst = 0;
  private runBits = 0;

  /** Recorded page in each row (at mod NR_ROWS), -1 if none; its mapping, page and SEEN bits. */
  private readonly rowAt = new Float64Array(NR_ROWS).fill(-1);
  private readonly rowMapping = new Int32Array(NR_ROWS);
  private readonly rowPage = new Float64Array(NR_ROWS);
  private readonly rowSeen = new Uint8Array(NR_ROWS);
  /** SEEN bits of all recorded pages since they were mapped or dropped. */
  private readonly seen = new PageFlags();

  constructor(sink: TraceSink, name: string) {
    this.name = name;
    this.unchecked = sink;
    this.sink = createValidatingSink(sink, () => this.place());
    this.book = createAddressBook(this.sink);
    this.calls = new LackeyCalls(this.book, this.sink, this, () => this.place());
    this.layout = {
      stackTop: (at) => (at < STACK_TOP && at >= STACK_TOP - STACK_PAGES ? STACK_TOP : -1),
      kindOf: (at) => {
        if (at < LOADER_START) return "program";
        return at < LOADER_END ? "loader" : "memory";
      },
    };
  }

  push(chunk: Uint8Array): void {
    let from = 0;
    if (this.carryLength > 0) {
      from = this.completeLine(chunk);
      if (from < 0) return;
    }
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    if (end > from) this.scan(chunk, from, end);
    this.keep(chunk, Math.max(from, end));
    this.base += chunk.length;
  }

  finish(): void {
    if (this.carryLength > 0) {
      const line = this.carry.slice(0, this.carryLength + 1);
      line[this.carryLength] = NEWLINE;
      this.scanCarried(line);
    }
    if (this.nrAccesses === 0) {
      const found = this.base === 0 ? "an empty file" : "the end of the file";
      const wanted = "lackey's text with accesses (--trace-mem=yes)";
      throw new UsageError(`${this.name}: byte ${this.base}`, found, wanted);
    }
    this.endRun();
    this.sink.windowEnd(THREAD, this.nrAccesses);
    if (this.calls.exitStatus >= 0) this.sink.exit(PROCESS, this.calls.exitStatus);
    this.sink.end(this.nrInstructions);
  }

  /** Takes the rest of the carried line; gives where the next begins, -1 if the chunk does not end it. */
  private completeLine(chunk: Uint8Array): number {
    const end = chunk.indexOf(NEWLINE) + 1;
    if (end === 0) {
      this.keep(chunk, 0);
      this.base += chunk.length;
      return -1;
    }
    const line = new Uint8Array(this.carryLength + end);
    line.set(this.carry.subarray(0, this.carryLength));
    line.set(chunk.subarray(0, end), this.carryLength);
    this.scanCarried(line);
    return end;
  }

  /** Scans one line that began `carryLength` bytes before `base`. */
  private scanCarried(line: Uint8Array): void {
    const base = this.base;
    this.base -= this.carryLength;
    this.carryLength = 0;
    this.scan(line, 0, line.length);
    this.base = base;
  }

  private keep(chunk: Uint8Array, from: number): void {
    const nrBytes = chunk.length - from;
    if (this.carryLength + nrBytes > LONGEST_LINE) {
      this.lineStart = from - this.carryLength;
      this.refuse(`a line of more than ${LONGEST_LINE} bytes`, "lackey's text");
    }
    this.carry.set(chunk.subarray(from), this.carryLength);
    this.carryLength += nrBytes;
  }

  /** Scans whole lines: bytes[from..end), the last byte a newline. */
  private scan(bytes: Uint8Array, from: number, end: number): void {
    const fastEnd = end - LONGEST_USUAL;
    let at = from;
    while (at < end) {
      if (at < fastEnd && this.hasBegun) at = this.usualLines(bytes, at, fastEnd);
      at = this.anyLine(bytes, at);
    }
    this.lineStart = end;
  }

  /**
   * Scans lines of the usual forms that begin before `end`, as long as they use pages translated before; gives where the
   * first other line begins. Bytes are compared and decoded four at a time, and the state is in local variables: that is
   * what makes it fast. A digit that is none gives a page that was not translated, so anyLine looks at it strictly.
   */
  private usualLines(bytes: Uint8Array, from: number, end: number): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const { rowAt } = this;
    let { nrInstructions, nrAccesses, runAt, runCount, runBits } = this;
    let at = from;
    while (at < end) {
      const word = view.getInt32(at, true);
      if ((word & 0xffffff) === WORD_INSTRUCTION) {
        // No line is shorter, so a newline at either place is the first one.
        if (bytes[at + LEAST_ACCESS] === NEWLINE) at += LEAST_ACCESS + 1;
        else if (bytes[at + LEAST_ACCESS + 1] === NEWLINE) at += LEAST_ACCESS + 2;
        else if (bytes[at + LEAST_ACCESS + 2] === NEWLINE) at += LEAST_ACCESS + 3;
        else break;
        nrInstructions++;
        continue;
      }
      const bits = ACCESS_BITS[(word >> 8) & 0xff];
      if ((word & 0xff00ff) !== WORD_DATA || bits === 0) break;

      // 8 or 10 digits, without a branch: which of them is hard to foretell.
      const notComma = bytes[at + 11] ^ COMMA;
      const isLong = (notComma | -notComma) >>> 31;
      const comma = at + 11 + 2 * isLong;
      if (bytes[comma] !== COMMA || bytes[comma + 1] >> 4 !== 3) break;
      const five = (digitOf(word >>> 24) << 16) | fourDigits(view.getInt32(at + 4, true));
      const two = (digitOf(bytes[at + 8]) << 4) | digitOf(bytes[at + 9]);
      const page = (five << (8 * isLong)) | (two & -isLong);

      // An access reaches the next page only from the last 16 bytes if it is smaller than 10, from the last 100 else.
      const late = bytes[comma - 3] ^ LETTER_F;
      let next = comma + 3;
      if (bytes[comma + 2] !== NEWLINE) {
        next++;
        if (bytes[comma + 3] !== NEWLINE || late === 0) break;
      } else if ((late | (bytes[comma - 2] ^ LETTER_F)) === 0) break;

      if (page === runAt) {
        runCount++;
        runBits |= bits;
      } else {
        if (rowAt[page & (NR_ROWS - 1)] !== page) break;
        this.nrInstructions = nrInstructions;
        this.runCount = runCount;
        this.runBits = runBits;
        this.endRun();
        this.runAt = runAt = page;
        this.runFirst = runBits = bits;
        runCount = 1;
      }
      nrAccesses++;
      at = next;
    }
    this.nrInstructions = nrInstructions;
    this.nrAccesses = nrAccesses;
    this.runCount = runCount;
    this.runBits = runBits;
    return at;
  }

  /** Takes one line of any form; gives where the next begins. */
  private anyLine(bytes: Uint8Array, at: number): number {
    const first = bytes[at];
    if (first === LETTER_I && bytes[at + 1] === SPACE && bytes[at + 2] === SPACE) {
      this.nrInstructions++;
      return bytes.indexOf(NEWLINE, at) + 1;
    }
    const next = first === SPACE ? this.dataAccess(bytes, at) : 0;
    return next > 0 ? next : this.otherLine(bytes, at);
  }

  /** " L 1ffefff7a8,8": where the next line begins, or 0 if this line is something else. */
  private dataAccess(bytes: Uint8Array, at: number): number {
    const letter = bytes[at + 1];
    const bits = letter === LETTER_L ? SEEN_READ : SEEN_WRITE;
    if (letter !== LETTER_L && letter !== LETTER_S && letter !== LETTER_M) return 0;
    if (!this.hasBegun) return 0;

    let comma = at + 11;
    while (bytes[comma] !== COMMA) {
      if (comma++ === at + 20) return 0;
    }
    let page = 0;
    let wrong = 0;
    const low = comma - 3;
    for (let i = at + 3; i < low; i++) {
      const digit = HEX[bytes[i]];
      wrong |= digit;
      page = page * 16 + digit;
    }
    const size = bytes[comma + 1] - 0x30;
    let next = comma + 3;
    if (bytes[comma + 2] !== NEWLINE || bytes[low] === LETTER_F) {
      next = this.wideAccess(bytes, comma);
      if (next === 0) return 0;
    }
    if (wrong >= NO_DIGIT || size < 0 || size > 9) return 0;
    this.nrAccesses++;
    if (page === this.runAt) {
      this.runCount++;
      this.runBits |= bits;
    } else {
      this.lineStart = at;
      this.startRun(page, bits);
    }
    if (this.crossing > 0) this.crossInto(page, bits);
    return next;
  }

  /** Pages behind the first that the access at hand also reaches; almost always 0. */
  private crossing = 0;

  /** An access near a page's end or of 10 bytes and more: how far it reaches. Gives the next line's begin, 0 if malformed. */
  private wideAccess(bytes: Uint8Array, comma: number): number {
    let size = 0;
    let at = comma + 1;
    for (; bytes[at] !== NEWLINE; at++) {
      const digit = bytes[at] - 0x30;
      if (!(digit >= 0 && digit <= 9) || at > comma + 6) return 0;
      size = size * 10 + digit;
    }
    const offset = HEX[bytes[comma - 3]] * 256 + HEX[bytes[comma - 2]] * 16 + HEX[bytes[comma - 1]];
    this.crossing = Math.floor((offset + Math.max(1, size) - 1) / PAGE_SIZE);
    return at + 1;
  }

  /** The access goes on in the pages behind. */
  private crossInto(page: number, bits: number): void {
    for (let i = 1; i <= this.crossing; i++) this.startRun(page + i, bits);
    this.crossing = 0;
  }

  private startRun(at: number, bits: number): void {
    this.endRun();
    const row = at & (NR_ROWS - 1);
    if (this.rowAt[row] !== at) this.translate(row, at);
    this.runAt = at;
    this.runCount = 1;
    this.runFirst = bits;
    this.runBits = bits;
  }

  /** Tells the run that is over. */
  private endRun(): void {
    const at = this.runAt;
    if (at < 0) return;
    this.runAt = -1;
    const row = at & (NR_ROWS - 1);
    const mapping = this.rowMapping[row];
    const page = this.rowPage[row];
    const bits = this.runBits;
    const seen = this.rowSeen[row];
    if ((seen & SEEN_WRITE) === 0 && (seen & bits) !== bits) this.firstTouch(row, at);
    this.unchecked.access(THREAD, mapping, page, this.runCount, (bits & SEEN_WRITE) !== 0);
    if (this.nrInstructions - this.toldTick >= TICKS_APART) this.tellTime();
  }

  private translate(row: number, at: number): void {
    ensureKnown(this.book, PROCESS, at, this.layout);
    this.book.find(PROCESS, at);
    this.rowAt[row] = at;
    this.rowMapping[row] = this.book.mapping;
    this.rowPage[row] = this.book.page;
    this.rowSeen[row] = this.seen.get(at);
  }

  private firstTouch(row: number, at: number): void {
    const seen = this.rowSeen[row];
    const mapping = this.rowMapping[row];
    const page = this.rowPage[row];
    const isNewRead = (this.runFirst & SEEN_READ) !== 0 && (seen & SEEN_READ) === 0;
    const isNewWrite = (this.runBits & SEEN_WRITE) !== 0;
    if (isNewRead) this.sink.touch(THREAD, mapping, page, 1, false);
    if (isNewWrite) this.sink.touch(THREAD, mapping, page, 1, true);
    const bits = (isNewRead ? SEEN_READ : 0) | (isNewWrite ? SEEN_WRITE : 0);
    this.rowSeen[row] |= bits;
    this.seen.add(at, bits);
  }

  dropped(start: number, end: number): void {
    this.seen.clear(start, end);
    this.rowAt.fill(-1);
  }

  moved(start: number, end: number, to: number): void {
    for (let i = 0; i < end - start; i++) {
      const bits = this.seen.get(start + i);
      if (bits !== 0) this.seen.add(to + i, bits);
    }
    this.dropped(start, end);
  }

  /** A line that is no access: a system call or valgrind's own words. Gives where the next line begins. */
  private otherLine(bytes: Uint8Array, at: number): number {
    const end = bytes.indexOf(NEWLINE, at);
    this.lineStart = at;
    const line = String.fromCharCode(...bytes.subarray(at, Math.min(end, at + 4096)));
    if (!this.hasBegun) {
      if (!IS_VALGRIND_WORD.test(line)) {
        this.begin(line);
        return at;
      }
      this.command = /^==\d+== Command: (.*)/.exec(line)?.[1]?.split(" ") ?? this.command;
      return end + 1;
    }
    this.endRun();
    this.tellTime();
    const rest = this.calls.line(line);
    if (rest !== "") this.restOfLine(rest);
    return end + 1;
  }

  /** Valgrind prints a call's result without a line end if the thread changes: the next line follows on it. */
  private restOfLine(rest: string): void {
    const line = Uint8Array.from(`${rest}\n`, (c) => c.charCodeAt(0));
    const isInstruction = rest.startsWith("I  ");
    if (isInstruction) this.nrInstructions++;
    else if (this.dataAccess(line, 0) === 0) this.refuse(shown(rest), "lackey's text");
  }

  private begin(line: string): void {
    if (!/^(?:SYSCALL\[| -->| [LSM] )/.test(line)) {
      this.refuse(shown(line), "lackey's text (valgrind --tool=lackey --trace-mem=yes)");
    }
    this.hasBegun = true;
    this.sink.begin({
      command: this.command,
      source: "lackey",
      has: { exactTouches: true, counts: false, order: "full" },
    });
    this.book.start(PROCESS, -1, "exec");
    this.sink.thread(THREAD, PROCESS);
    this.sink.windowBegin(THREAD);
  }

  private tellTime(): void {
    if (this.nrInstructions === this.toldTick) return;
    this.toldTick = this.nrInstructions;
    this.sink.time(this.nrInstructions);
  }

  private refuse(found: string, wanted: string): never {
    throw new UsageError(this.place(), found, wanted);
  }

  private place(): string {
    return `${this.name}: byte ${this.base + this.lineStart}`;
  }
}

/** Value of a hexadecimal digit given as its character; anything for other characters. */
function digitOf(character: number): number {
  return (character & 15) + (character >> 6) * 9;
}

/** Value of four hexadecimal digits, the first in the lowest byte. */
function fourDigits(word: number): number {
  const digits = (word & 0x0f0f0f0f) + ((word >>> 6) & 0x01010101) * 9;
  return ((digits & 0x0f) << 12) | (digits & 0x0f00) | ((digits >>> 12) & 0xf0) | (digits >>> 24);
}

/** The beginning of a line, for a message. */
function shown(line: string): string {
  return JSON.stringify(line.slice(0, 40));
}
