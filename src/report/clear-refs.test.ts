import { expect, test } from "vitest";
import { EINVAL } from "../base/errno.ts";
import { type Kit, machine } from "../machine/test-kit.ts";
import { peakRss, rssOf } from "../mm/state.ts";
import { PG } from "../phys/frame-table.ts";
import { writeClearRefs } from "./clear-refs.ts";
import { readProc } from "./proc.ts";

/** Referenced kB of a huge page, a small one and shared memory, all touched. */
function touched() {
  const t = machine();
  const huge = t.mapHuge();
  const small = t.map({ pages: 3 });
  const shared = t.map({ pages: 5, shared: true });
  t.fill(small);
  t.fill(shared);
  t.m.frames.flags[t.folio(huge)] |= PG.REFERENCED;
  return t;
}

function referenced(t: Kit): number[] {
  const text = String(readProc(t.m, t.mm.id, "smaps"));
  return [...text.matchAll(/^Referenced: +(\d+) kB$/gm)].map((match) => Number(match[1]));
}

test("PROC-036 1 clears all, 2 anonymous memory, 3 that of files; a huge entry as a whole", () => {
  const after = (text: string) => {
    const t = touched();
    const result = writeClearRefs(t.m, t.mm, text);
    t.check();
    return [result, ...referenced(t).slice(0, 3)];
  };
  expect(after("4")).toEqual([1, 2048, 12, 20]);
  expect(after("1\n")).toEqual([2, 0, 0, 0]);
  expect(after("2")).toEqual([1, 0, 0, 20]);
  expect(after("3")).toEqual([1, 2048, 12, 0]);
});

test("PROC-036 5 restarts VmHWM at today's RSS", () => {
  const t = touched();
  t.madvise(t.map({ pages: 1 }), "DONTNEED");
  t.munmap({ mm: t.mm, start: t.mm.vmas[0].start, nrPages: 512 });
  expect(peakRss(t.mm)).toBe(520);
  expect(writeClearRefs(t.m, t.mm, "5")).toBe(1);
  expect([peakRss(t.mm), rssOf(t.mm)]).toEqual([8, 8]);
});

test("PROC-036 other numbers and text are refused", () => {
  const t = touched();
  for (const text of ["0", "6", "-1", "x", "", "1x"])
    expect([text, writeClearRefs(t.m, t.mm, text)]).toEqual([text, -EINVAL]);
  expect(referenced(t).slice(0, 3)).toEqual([2048, 12, 20]);
});
