import { expect, test } from "vitest";
import { EAGAIN, EBUSY, ENOMEM } from "../base/errno.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { release, runToEnd, runToPhase, startOperation } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import { PROT } from "../syscall/mmap.ts";
import { fieldsFor, migrateFolio, migratePhases } from "./migrate-phases.ts";

function filled(t: Kit): Range {
  const range = t.map({ huge: 1 });
  t.fill(range);
  return range;
}

/** Migrates the folio of the range's first page with the reference that the caller must hold. */
function migrate(t: Kit, range: Range): number {
  const pfn = t.get(range);
  const result = migrateFolio(t.m, t.folio(range));
  t.put(pfn);
  return result;
}

/** The same, stopped before `phase`. */
function begun(t: Kit, range: Range, phase: string): number {
  t.get(range);
  const task = createTask(t.m, "kcompactd");
  const op = startOperation(t.m, migratePhases, task.id, fieldsFor(t.m, t.folio(range)));
  runToPhase(t.m, op.id, phase);
  t.check();
  return op.id;
}

function finish(t: Kit, op: number): number | null {
  release(t.m, op);
  const result = runToEnd(t.m, op);
  t.check();
  return result;
}

test("ANON-295 a huge folio moves whole: every mapping stays huge and keeps its rights and contents", () => {
  const t = machine({ enabled: "always" });
  const range = filled(t);
  const child = of(t.fork(), range);
  const [before, contents] = [t.folio(range), t.contents(range)];
  const entries = [t.entry(range), t.entry(child)];
  expect(t.thpDeltas(() => expect(migrate(t, range)).toBe(0))).toEqual({});
  expect(t.folio(range)).not.toBe(before);
  expect([t.isHuge(range), t.isHuge(child), t.folio(child)]).toEqual([true, true, t.folio(range)]);
  expect([t.contents(range), t.contents(child)]).toEqual([contents, contents]);
  expect([t.entry(range), t.entry(child)]).toEqual(entries);
  expect(t.m.frames.refcount[before]).toBe(0);
});

test("a folio mapped by pages moves by pages", () => {
  const t = machine({ enabled: "always" });
  const range = filled(t);
  t.mprotect(part(range, 5, 3), PROT.READ);
  const contents = t.contents(range);
  expect(migrate(t, range)).toBe(0);
  expect([t.contents(range), t.write(range, 5), t.write(range, 9)]).toEqual([
    contents,
    "SIGSEGV",
    "none",
  ]);
});

test("ANON-253 what is pinned, referred to or half unmapped is not moved", () => {
  const t = machine({ enabled: "always" });
  const [pinned, got, partial] = [filled(t), filled(t), filled(t)];
  t.pin(part(pinned, 3, 1));
  t.get(part(got, 3, 1));
  t.munmap(part(partial, 100, 1));
  for (const range of [pinned, got, partial]) {
    const pfn = t.folio(range);
    expect([migrate(t, range), t.folio(range)]).toEqual([-EAGAIN, pfn]);
  }
});

test("without a free block nothing changes", () => {
  const t = machine({ enabled: "always" });
  const range = filled(t);
  const pfns = t.pfns(range);
  t.exhaust(9);
  expect([migrate(t, range), t.pfns(range)]).toEqual([-ENOMEM, pfns]);
});

test("ANON-153 ANON-073 fork copies a huge migration entry read-only; both wait for it, both get the new folio", () => {
  const t = machine({ enabled: "always" });
  const range = filled(t);
  const contents = t.contents(range);
  const op = begun(t, range, "move");
  expect(t.entry(range)).toBe("WRITE YOUNG DIRTY HUGE MIGRATION EXCLUSIVE");
  expect([t.write(range, 3), t.read(range, 4)]).toEqual(["wait", "wait"]);
  const child = of(t.fork(), range);
  expect([t.entry(range), t.entry(child)]).toEqual([
    "YOUNG DIRTY HUGE MIGRATION",
    "DIRTY HUGE MIGRATION",
  ]);
  expect(t.mm.rssAnon).toBe(child.mm.rssAnon);
  expect(finish(t, op)).toBe(0);
  expect([t.folio(child), t.contents(child)]).toEqual([t.folio(range), contents]);
  expect([t.isHuge(child), t.kpagecount(part(range, 8, 1))]).toEqual([true, [2]]);
});

test("ANON-223 a huge migration entry moves as a unit if both ends are aligned, else it is split", () => {
  const t = machine({ enabled: "always" });
  const range = filled(t);
  const contents = t.contents(range);
  const op = begun(t, range, "move");
  const moved = t.mremap(range, 512, { at: range.start + 2 ** 32 });
  expect(t.entry(moved)).toContain("HUGE MIGRATION");
  const second = filled(t);
  const other = begun(t, second, "move");
  const shifted = t.mremap(second, 512, { at: second.start + 2 ** 32 + 4096 });
  expect(t.entry(shifted)).toBe("WRITE YOUNG DIRTY MIGRATION EXCLUSIVE");
  expect([finish(t, op), finish(t, other)]).toEqual([0, 0]);
  expect([t.isHuge(moved), t.contents(moved)]).toEqual([true, contents]);
  expect([t.write(shifted, 0), t.folio(part(shifted, 511, 1))]).toEqual(["none", t.folio(shifted)]);
});

test("munmap and DONTNEED forget huge migration entries, mprotect takes their write bit", () => {
  for (const what of ["munmap", "DONTNEED", "part", "mprotect"] as const) {
    const t = machine({ enabled: "always" });
    const range = filled(t);
    const contents = t.contents(range);
    const op = begun(t, range, "move");
    if (what === "munmap") t.munmap(range);
    else if (what === "DONTNEED") t.madvise(range, "DONTNEED");
    else if (what === "part") t.madvise(part(range, 0, 8), "DONTNEED");
    else t.mprotect(range, PROT.READ);
    expect([what, finish(t, op)]).toEqual([what, 0]);
    const rss = { munmap: 0, DONTNEED: 0, part: 504, mprotect: 512 }[what];
    expect([what, t.smaps(range).Rss]).toEqual([what, rss * 4]);
    if (what === "mprotect")
      expect([t.write(range), t.contents(range)]).toEqual(["SIGSEGV", contents]);
    if (what === "part") expect(t.contents(part(range, 8, 504))).toEqual(contents.slice(8));
  }
});

test("a pin that comes in time stops the move and leaves everything mapped as before", () => {
  const t = machine({ enabled: "always" });
  const range = filled(t);
  const [head, entry] = [t.folio(range), t.entry(range)];
  const op = begun(t, range, "unmap");
  t.pin(part(range, 9, 1));
  expect(finish(t, op)).toBe(-EAGAIN);
  expect([t.folio(range), t.entry(range), t.isHuge(range)]).toEqual([head, entry, true]);
});

test("a folio that somebody works on is busy", () => {
  const t = machine({ enabled: "always" });
  const range = filled(t);
  const op = begun(t, range, "allocate");
  expect(migrateFolio(t.m, t.folio(range))).toBe(-EBUSY);
  expect(finish(t, op)).toBe(0);
});
