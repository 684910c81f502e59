/**
 * Lines of `perf script -F comm,pid,tid,time,event,addr,trace`, taken apart.
 *
 *     redis 812/815  3553.201449: exceptions:page_fault_user: address=0x7f24f5344b70 ip=0x7f24f5344b70 error_code=0x14   0
 *     redis 812/812  3553.202241: PERF_RECORD_MMAP2 812/812: [0x7f24f4c00000(0x400000) @ 0x7f24 00:00 0 0]: rw-p //anon
 */

/** The fields before the event. */
export interface PerfLine {
  readonly command: string;
  readonly pid: number;
  readonly tid: number;
  readonly microseconds: number;
  /** The event with its own text, e.g. "page-faults:     7f24f5344b70". */
  readonly rest: string;
}

/** A PERF_RECORD_MMAP or MMAP2. */
export interface PerfMap {
  readonly address: number;
  readonly length: number;
  readonly offset: number;
  readonly prot: number;
  readonly isShared: boolean;
  /** A path, "//anon", "[stack]", "[heap]", "[vdso]"... */
  readonly name: string;
}

const LINE = /^\s*(.+?)\s+(-?\d+)\/(-?\d+)\s+(?:\[\d+\]\s+)?(\d+)\.(\d+):\s+(?:\d+\s+)?(\S.*)$/;
const MAP =
  /^PERF_RECORD_MMAP2? -?\d+\/-?\d+: \[0x([0-9a-f]+)\(0x([0-9a-f]+)\) @ (?:0x)?([0-9a-f]+)[^\]]*\]: ([rwxsp-]+) (.*)$/;

/** The line, or undefined if it has another form. */
export function parsePerfLine(line: string): PerfLine | undefined {
  const match = LINE.exec(line);
  if (match === null) return undefined;
  const [, command, pid, tid, seconds, fraction, rest] = match;
  const micros = Number(fraction.padEnd(6, "0").slice(0, 6));
  return {
    command,
    pid: Number(pid),
    tid: Number(tid),
    microseconds: Number(seconds) * 1_000_000 + micros,
    rest,
  };
}

/** The event's name and what follows it; modifiers as in "page-faults:u" are left out. */
export function splitEvent(rest: string): { readonly name: string; readonly text: string } {
  const match = /^((?:\w+:)?[\w-]+)(?::[a-zA-Z]{1,5})?: *(.*)$/.exec(rest);
  if (match === null) return { name: rest, text: "" };
  const [, name, text] = match;
  const isModified = /^[a-z]*-?faults:/.test(name);
  return { name: isModified ? name.slice(0, name.indexOf(":")) : name, text };
}

export function parsePerfMap(rest: string): PerfMap | undefined {
  const match = MAP.exec(rest);
  if (match === null) return undefined;
  const [, address, length, offset, mode, name] = match;
  const has = (letter: string, bit: number): number => (mode.includes(letter) ? bit : 0);
  return {
    address: Number.parseInt(address, 16),
    length: Number.parseInt(length, 16),
    offset: Number.parseInt(offset, 16),
    prot: has("r", 1) | has("w", 2) | has("x", 4),
    isShared: mode.includes("s"),
    name,
  };
}

/** All "0x..." of a text as numbers, in order: a call's arguments. */
export function hexNumbers(text: string): number[] {
  return [...text.matchAll(/0x([0-9a-f]+)/g)].map(([, digits]) => Number.parseInt(digits, 16));
}

/** A call's result: an address, a small number, or a negative errno printed as 64 bits. */
export function callResult(text: string): number {
  const digits = /0x([0-9a-f]+)/.exec(text)?.[1] ?? "0";
  if (digits.length === 16 && digits.startsWith("ffffffff")) {
    return Number.parseInt(digits.slice(8), 16) | 0;
  }
  return Number.parseInt(digits, 16);
}
