import { expect, test } from "vitest";
import { PAGE_SIZE, TASK_SIZE } from "../base/address.ts";
import { EINVAL } from "../base/errno.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { type PagemapReader, type PagemapWords, readPagemap, wordText } from "./pagemap.ts";

function wordsOf(t: Kit, range: Range, reader: PagemapReader = "root"): string[] {
  const offset = (range.start / PAGE_SIZE) * 8;
  const words = readPagemap(t.m, range.mm, offset, range.nrPages * 8, reader) as PagemapWords;
  return Array.from(words.low, (_, i) => wordText(words, i));
}

/** Upper byte of the word, which holds all flags but soft-dirty, and the frame number. */
function partsOf(word: string): [flags: string, pfn: number] {
  return [word.slice(0, 2), Number.parseInt(word.slice(3), 16)];
}

function text(flags: string, pfn: number): string {
  return flags + pfn.toString(16).padStart(14, "0");
}

test("PROC-040 a present page has bit 63 and its frame, bit 56 while mapped once; nothing is 0", () => {
  const t = machine();
  const range = t.map({ pages: 3 });
  t.write(range, 1);
  const [, pfn] = t.pfns(range);
  expect(wordsOf(t, range)).toEqual(["0".repeat(16), text("81", pfn), "0".repeat(16)]);
  const child = of(t.fork(), range);
  expect(wordsOf(t, child)[1]).toBe(text("80", pfn));
  expect(wordsOf(t, range)[1]).toBe(text("80", pfn));
  t.write(child, 1);
  expect(wordsOf(t, range)[1]).toBe(text("81", pfn));
});

test("PROC-040 offset and length are multiples of 8; behind user space there is nothing", () => {
  const t = machine();
  const read = (offset: number, nrBytes: number) => readPagemap(t.m, t.mm, offset, nrBytes);
  expect([read(4, 8), read(8, 4), read(8, 12)]).toEqual([-EINVAL, -EINVAL, -EINVAL]);
  const end = (TASK_SIZE / PAGE_SIZE) * 8;
  const lengths = [end - 16, end - 8, end, end + 80].map(
    (offset) => (read(offset, 64) as PagemapWords).low.length,
  );
  expect(lengths).toEqual([2, 1, 0, 0]);
});

test("PROC-040 words of several regions and tables come in one read", () => {
  const t = machine();
  const low = t.map({ at: 2 ** 39 - 4096, pages: 1 });
  const high = t.map({ at: 2 ** 39, pages: 600 });
  t.write(low);
  t.write(high, 0);
  t.write(high, 599);
  const words = wordsOf(t, { ...low, nrPages: 601 });
  const present = words.flatMap((word, i) => (word.startsWith("81") ? [i] : []));
  expect(present).toEqual([0, 1, 600]);
});

test("PROC-041 a huge mapping has 512 words with consecutive frames", () => {
  const t = machine();
  const range = t.mapHuge();
  const [pfn] = t.pfns(range);
  expect(wordsOf(t, range)).toEqual(Array.from({ length: 512 }, (_, i) => text("81", pfn + i)));
  t.fork();
  expect(wordsOf(t, range)[77]).toBe(text("80", pfn + 77));
});

test("PROC-041 shared anonymous memory has bit 61", () => {
  const t = machine();
  const range = t.map({ pages: 2, shared: true });
  t.write(range);
  expect(partsOf(wordsOf(t, range)[0])).toEqual(["a1", t.pfns(range)[0]]);
});

test("ANON-250 bit 56 of a huge mapping is its first page's on 6.18, each page's own on 6.12", () => {
  const flagsAfterCowOfPage = (profile: string, page: number) => {
    const t = machine({ profile });
    const range = t.mapHuge();
    t.write(of(t.fork(), range), page);
    const words = wordsOf(t, range);
    return [0, 1, 5].map((i) => words[i].slice(0, 2));
  };
  expect(flagsAfterCowOfPage("linux-6.18", 0)).toEqual(["81", "81", "81"]);
  expect(flagsAfterCowOfPage("linux-6.18", 5)).toEqual(["80", "80", "80"]);
  expect(flagsAfterCowOfPage("linux-6.12", 0)).toEqual(["81", "80", "80"]);
  expect(flagsAfterCowOfPage("linux-6.12", 5)).toEqual(["80", "80", "81"]);
});

test("PROC-042 the huge zero page reads a0 with its frames, the small one 80", () => {
  const t = machine({ enabled: "always" });
  const huge = t.map({ huge: 1 });
  const small = t.map({ pages: 2, advice: "NOHUGEPAGE" });
  t.read(huge);
  t.read(small);
  const { pfn } = t.m.hugeZero;
  expect(wordsOf(t, part(huge, 510, 2))).toEqual([text("a0", pfn + 510), text("a0", pfn + 511)]);
  expect(wordsOf(t, small)[0]).toBe(text("80", t.m.zeroPfn));
});

test("PROC-043 a swapped THP: bit 62, one device, offsets in sequence from a multiple of 512", () => {
  const t = machine();
  t.swapon({ pages: 4096 });
  const range = t.mapHuge();
  t.fill(range);
  t.madvise(range, "PAGEOUT");
  const words = wordsOf(t, range);
  expect(words.slice(0, 3)).toEqual(["4000000000004000", "4000000000004020", "4000000000004040"]);
  expect(words).toEqual(Array.from({ length: 512 }, (_, i) => text("40", (512 + i) * 32)));
});

test("PROC-043 the device is in bits 0..4", () => {
  const t = machine();
  t.swapon({ pages: 1024, priority: 1 });
  t.swapon({ pages: 1024, priority: 7 });
  const range = t.map({ pages: 1 });
  t.write(range);
  t.madvise(range, "PAGEOUT");
  const [word] = wordsOf(t, range);
  expect(word.slice(0, 2)).toBe("40");
  expect(Number.parseInt(word.slice(8), 16) % 32).toBe(1);
});

test("PROC-040 a guard page has bits 62 and 58", () => {
  const t = machine();
  const range = t.map({ pages: 2 });
  t.madvise(part(range, 1, 1), "GUARD_INSTALL");
  expect(wordsOf(t, range)).toEqual(["0".repeat(16), "440000000000009f"]);
});

test("PROC-044 an owner without rights sees the flags and no frame", () => {
  const t = machine();
  const range = t.mapHuge();
  expect(new Set(wordsOf(t, range, "owner"))).toEqual(new Set(["8100000000000000"]));
});
