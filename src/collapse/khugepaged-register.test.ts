import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { forkMm } from "../mm/fork.ts";
import { NO_MM } from "../mm/khugepaged-list.ts";
import { setBrk } from "../mm/mmap.ts";
import { MAP, PROT } from "../syscall/mmap.ts";
import { sysSetThpDisable } from "../syscall/prctl.ts";
import { passUnderWay } from "./khugepaged-phases.ts";

/** Memory in small pages whose address space is not registered, though any of it may be huge. */
function unregistered(huge = 2): { t: Kit; range: Range } {
  const t = machine({ enabled: "never" });
  const range = t.map({ huge });
  t.fill(range);
  t.knob("thp.enabled", "always");
  expect(t.m.khugepaged.mms).toEqual([]);
  return { t, range };
}

function isRegistered(t: Kit, mm = t.mm): boolean {
  return t.m.khugepaged.mms.includes(mm.id);
}

test("COLL-040 the list is in the order of registration, each address space once, and the first one wakes the daemon", () => {
  const t = machine({ enabled: "always" });
  t.khugepaged();
  const task = t.m.sched.tasks[t.m.khugepaged.task]!;
  expect(task.wakeNs).toBe(Number.POSITIVE_INFINITY);
  const mms = [t.exec(), t.mm, t.exec()];
  for (const mm of mms) {
    t.write(t.map({ mm, huge: 1 }));
    t.write(t.map({ mm, huge: 1 }));
    expect(task.wakeNs).toBe(0); // now, at time 0
  }
  expect(t.m.khugepaged.mms).toEqual(mms.map(({ id }) => id));
});

test("COLL-040 a new address space goes behind the others, so the lap under way comes to it", () => {
  const t = machine({ enabled: "always" });
  t.knob("khugepaged.pages_to_scan", "1");
  const second = t.exec();
  for (const mm of [t.mm, second]) t.write(t.map({ mm, huge: 1 }));
  t.khugepaged();
  const third = t.exec();
  t.write(t.map({ mm: third, huge: 1 }));
  const visited = [t.m.khugepaged.cursorMm];
  while (t.m.knobs.khugepaged.full_scans === 0) {
    t.khugepaged();
    visited.push(t.m.khugepaged.cursorMm);
  }
  // One pass for the one region of each, one for what is left of its VMAs (COLL-066); the third is part of the first lap.
  expect(visited).toEqual([t.mm.id, second.id, second.id, third.id, third.id, NO_MM]);
});

test("COLL-041 COLL-042 MADV_HUGEPAGE tests the whole VMA as if all of it were advised, also if it was before", () => {
  const t = machine();
  const range = t.map({ huge: 2 });
  t.fill(range);
  t.madvise(part(range, 0, 512 + 256), "NOHUGEPAGE");
  t.madvise(part(range, 512 + 256, 256), "HUGEPAGE"); // a VMA without a region
  expect(isRegistered(t)).toBe(false);

  const whole = t.map({ huge: 2 });
  t.fill(whole);
  t.madvise(part(whole, 0, 1), "HUGEPAGE");
  expect(isRegistered(t)).toBe(true);

  const again = machine({ enabled: "never" });
  const advised = again.map({ huge: 1, advice: "HUGEPAGE" });
  again.fill(advised);
  again.knob("thp.enabled", "madvise");
  expect(isRegistered(again)).toBe(false);
  again.madvise(advised, "HUGEPAGE"); // changes nothing
  expect(isRegistered(again)).toBe(true);
});

test("COLL-041 nobody is registered where no PMD-sized mode is enabled, or by a VMA that khugepaged may not work in", () => {
  const never = machine({ enabled: "never", sizes: { "1024kB": "always" } });
  const there = never.map({ huge: 1 });
  never.fill(there);
  never.madvise(there, "HUGEPAGE");
  expect(isRegistered(never)).toBe(false);

  const { t, range } = unregistered();
  sysSetThpDisable(t.m, t.mm, 1, 0);
  t.madvise(range, "HUGEPAGE");
  expect(isRegistered(t)).toBe(false);
});

/** Every way in which a VMA may come to be tested; each on its own machine. */
const WAYS: readonly {
  readonly name: string;
  readonly registers: boolean;
  readonly run: (t: Kit, range: Range) => void;
}[] = [
  { name: "nothing", registers: false, run: () => undefined },
  {
    name: "a mapping beside it that merges",
    registers: true,
    run: (t, range) => t.map({ pages: 1, at: range.start + range.nrPages * PAGE_SIZE }),
  },
  {
    name: "a mapping of other rights beside it",
    registers: false,
    run: (t, range) =>
      t.map({ pages: 1, prot: PROT.READ, at: range.start + range.nrPages * PAGE_SIZE }),
  },
  {
    name: "a mapping elsewhere, never touched",
    registers: false,
    run: (t) => t.map({ huge: 4 }),
  },
  {
    name: "growth in its place",
    registers: true,
    run: (t, range) => t.mremap(range, range.nrPages + 1),
  },
  {
    name: "a move",
    registers: false,
    run: (t, range) => t.mremap(range, range.nrPages, { at: range.start + 2 ** 29 }),
  },
  {
    name: "mprotect of a part",
    registers: false,
    run: (t, range) => t.mprotect(part(range, 2, 1), PROT.READ),
  },
  {
    name: "mprotect of a part and back, which merges",
    registers: true,
    run: (t, range) => {
      t.mprotect(part(range, 2, 1), PROT.READ);
      t.mprotect(part(range, 2, 1), PROT.READ | PROT.WRITE);
    },
  },
  {
    name: "unmapping a part",
    registers: false,
    run: (t, range) => t.munmap(part(range, 0, 1)),
  },
];

for (const { name, registers, run } of WAYS)
  test(`COLL-042 ${name} ${registers ? "registers" : "does not register"} memory that was faulted in small pages`, () => {
    const { t, range } = unregistered();
    run(t, range);
    expect(isRegistered(t)).toBe(registers);
  });

test("COLL-042 a heap that grows is registered; a stack that grows down is not", () => {
  const t = machine({ enabled: "never" });
  const heap = t.mm.brkStart;
  setBrk(t.m, t.mm, heap + 2 ** 22);
  t.fill({ mm: t.mm, start: Math.ceil(heap / PAGE_SIZE) * PAGE_SIZE, nrPages: 1024 });
  t.knob("thp.enabled", "always");
  setBrk(t.m, t.mm, heap + 2 ** 22 + PAGE_SIZE);
  expect(isRegistered(t)).toBe(true);

  const stack = machine({ enabled: "never" });
  const range = stack.map({ huge: 2, flags: MAP.GROWSDOWN });
  stack.fill(range);
  stack.knob("thp.enabled", "always");
  expect(stack.write({ ...range, start: range.start - PAGE_SIZE })).toBe("anon 4k");
  expect(isRegistered(stack)).toBe(false);
});

test("COLL-042 COLL-043 untouched memory registers nobody, its first huge fault does, before the folio is allocated", () => {
  const t = machine();
  const range = t.map({ huge: 1, advice: "HUGEPAGE" });
  expect(isRegistered(t)).toBe(false);
  t.write(range);
  expect(isRegistered(t)).toBe(true);

  const scarce = machine();
  const lean = scarce.map({ huge: 1, advice: "HUGEPAGE" });
  scarce.exhaust(9);
  expect(scarce.write(lean)).toBe("anon 4k");
  expect(isRegistered(scarce)).toBe(true);

  const read = machine({ useZeroPage: false });
  read.read(read.map({ huge: 1, advice: "HUGEPAGE" }));
  expect(isRegistered(read)).toBe(true);
});

test("COLL-043 memory faulted as small pages before MADV_HUGEPAGE registers at the madvise", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  t.write(range, 7);
  expect(isRegistered(t)).toBe(false);
  t.madvise(range, "HUGEPAGE");
  expect(isRegistered(t)).toBe(true);
});

test("COLL-042 a child is registered if its parent is, whatever the knobs say by then; a new program is not", () => {
  const t = machine();
  t.mapHuge();
  const bystander = t.exec();
  t.knob("thp.enabled", "never");
  const child = t.fork();
  const stranger = t.fork(bystander);
  expect(t.m.khugepaged.mms).toEqual([t.mm.id, child.id]);
  expect([bystander, stranger].map((mm) => isRegistered(t, mm))).toEqual([false, false]);
});

test("COLL-044 MADV_HUGEPAGE and MADV_NOHUGEPAGE exclude each other, and the latter unregisters nobody", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.madvise(range, "HUGEPAGE");
  t.madvise(range, "NOHUGEPAGE");
  expect(isRegistered(t)).toBe(true);
  expect([t.khugepaged(), t.isHuge(range)]).toEqual([0, false]);
  t.madvise(range, "HUGEPAGE");
  expect([t.khugepaged(), t.isHuge(range)]).toEqual([1, true]);
});

test("COLL-047 a VMA without an aligned region registers nobody, however long it is", () => {
  const t = machine();
  for (const range of [t.map({ pages: 1022, offset: 1 }), t.map({ pages: 511 })]) {
    t.write(range);
    t.madvise(range, "HUGEPAGE");
  }
  expect(isRegistered(t)).toBe(false);
  const range = t.map({ pages: 1023, offset: 1 });
  t.write(range);
  t.madvise(range, "HUGEPAGE");
  expect(isRegistered(t)).toBe(true);
});

test("COLL-048 whoever ends leaves the list at once, unless the cursor is at it: then when the daemon moves on", () => {
  const t = machine();
  t.knob("khugepaged.pages_to_scan", "1");
  const [first, second, third] = [t.mm, t.exec(), t.exec()];
  for (const mm of [first, second, third])
    for (let i = 0; i < 3; i++) t.write(t.map({ mm, huge: 1, advice: "HUGEPAGE" }));
  t.khugepaged();
  const { khugepaged } = t.m;
  expect(khugepaged.cursorMm).toBe(first.id);
  t.exit(second);
  expect(khugepaged.mms).toEqual([first.id, third.id]);
  t.exit(first);
  expect(khugepaged.mms).toEqual([first.id, third.id]);
  // Its number is not given to another before that.
  expect([t.exec().id, t.exec().id]).toEqual([second.id, 3]);
  t.khugepaged();
  expect([khugepaged.cursorMm, khugepaged.mms]).toEqual([third.id, [third.id]]);
  expect(t.exec().id).toBe(first.id);
});

test("COLL-048 no knob, no advice and no prctl takes an address space off the list", () => {
  const t = machine();
  const range = t.mapHuge();
  sysSetThpDisable(t.m, t.mm, 1, 0);
  t.madvise(range, "NOHUGEPAGE");
  t.knob("thp.enabled", "never");
  t.munmap(range);
  expect([isRegistered(t), passUnderWay(t.m)]).toEqual([true, null]);
});

test("COLL-042 a fork that fails leaves nothing on the list", () => {
  const t = machine();
  t.mapHuge();
  t.exhaustAll();
  const child = forkMm(t.m, t.mm);
  if (child !== null) t.exit(of(child, t.map({ pages: 1 })).mm);
  expect(t.m.khugepaged.mms).toEqual([t.mm.id]);
  t.check();
});
