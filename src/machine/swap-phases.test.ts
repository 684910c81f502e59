import { describe, expect, test } from "vitest";
import { pteIndexOf, regionOf } from "../base/address.ts";
import { EINTR } from "../base/errno.ts";
import { beginFault } from "../fault/huge-fault-phases.ts";
import { beginSwapOff } from "../fault/swap-off-phases.ts";
import type { Mm } from "../mm/state.ts";
import {
  findOperation,
  hold,
  release,
  runToEnd,
  runToPhase,
  stepOperation,
} from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import { beginMadvise, MADV } from "../syscall/madvise.ts";
import { PROT } from "../syscall/mmap.ts";
import { NO_FAULT, pageTag, readPage } from "./access.ts";
import { digestOf } from "./digest.ts";
import { createMachine } from "./machine.ts";
import { restore, snapshot } from "./snapshot.ts";
import { type Kit, machine, of, part, type Range } from "./test-kit.ts";

const MEMORY = 16;

/** Memory before a long operation on it, and the operation, of which nothing has run. */
interface Scene {
  readonly t: Kit;
  readonly range: Range;
  readonly op: number;
}

function kit(swapPages: number, sizes: Readonly<Record<string, string>> = {}): Kit {
  const t = machine({ enabled: "always", memory: MEMORY, sizes });
  if (swapPages > 0) t.swapon({ pages: swapPages });
  return t;
}

/** A huge folio of which every 64th page is written, as 8 pages of the range each. */
function huge(t: Kit): Range {
  const range = t.map({ huge: 1 });
  for (let page = 0; page < 512; page += 64) t.write(range, page);
  return range;
}

/** The same mapped by 512 PTEs. */
function byPages(t: Kit): Range {
  const range = huge(t);
  t.mprotect(part(range, 3, 1), PROT.READ);
  t.mprotect(range, PROT.READ | PROT.WRITE);
  return range;
}

function small(t: Kit, pages: number): Range {
  const range = t.map({ pages, advice: "NOHUGEPAGE" });
  t.fill(range);
  return range;
}

function advise(t: Kit, range: Range, of_: Range, advice: keyof typeof MADV): Scene {
  const task = createTask(t.m, "adviser", range.mm.id);
  const op = beginMadvise(t.m, task.id, of_.mm, of_.start, of_.nrPages * 4096, MADV[advice]);
  return { t, range, op: op!.id };
}

function fault(t: Kit, range: Range, page: number, access: "read" | "write"): Scene {
  const addr = range.start + page * 4096;
  const task = createTask(t.m, "toucher", range.mm.id);
  const op = beginFault(t.m, task.id, range.mm, regionOf(addr), pteIndexOf(addr), access);
  return { t, range, op: op.id };
}

/** Page-out and the other advice that works in phases, whole and in part. */
const ADVICE: Readonly<Record<string, () => Scene>> = {
  "PAGEOUT of a huge page": () => {
    const t = kit(1024);
    const range = huge(t);
    return advise(t, range, range, "PAGEOUT");
  },
  "PAGEOUT of a huge page mapped by pages": () => {
    const t = kit(1024);
    const range = byPages(t);
    return advise(t, range, range, "PAGEOUT");
  },
  "PAGEOUT of a part of a huge page": () => {
    const t = kit(1024);
    const range = huge(t);
    return advise(t, range, part(range, 62, 5), "PAGEOUT");
  },
  "PAGEOUT of a part of one mapped by pages": () => {
    const t = kit(1024);
    const range = byPages(t);
    return advise(t, range, part(range, 62, 5), "PAGEOUT");
  },
  "PAGEOUT of a huge page to a device too small for it": () => {
    const t = kit(300);
    const range = huge(t);
    return advise(t, range, range, "PAGEOUT");
  },
  "PAGEOUT of two folios of 64 kB": () => {
    const t = kit(1024, { "64kB": "always", "2048kB": "never" });
    const range = t.map({ pages: 32 });
    t.fill(range);
    return advise(t, range, range, "PAGEOUT");
  },
  "PAGEOUT of 4K pages": () => {
    const t = kit(1024);
    const range = small(t, 6);
    return advise(t, range, range, "PAGEOUT");
  },
  "PAGEOUT of lazily freed pages": () => {
    const t = kit(1024);
    const range = small(t, 4);
    t.madvise(part(range, 0, 2), "FREE");
    return advise(t, range, range, "PAGEOUT");
  },
  "PAGEOUT without swap": () => {
    const t = kit(0);
    const range = huge(t);
    return advise(t, range, range, "PAGEOUT");
  },
  "COLD of a part of a huge page": () => {
    const t = kit(1024);
    const range = huge(t);
    return advise(t, range, part(range, 62, 5), "COLD");
  },
  "FREE of a part of a huge page": () => {
    const t = kit(1024);
    const range = huge(t);
    return advise(t, range, part(range, 510, 2), "FREE");
  },
};

/** Swapped pages, and a fault on one of them. */
const SWAP_IN: Readonly<Record<string, () => Scene>> = {
  "a read of a page that only this entry names": () => {
    const t = kit(1024);
    const range = small(t, 6);
    t.madvise(range, "PAGEOUT");
    return fault(t, range, 2, "read");
  },
  "a write to a page of a huge folio": () => {
    const t = kit(1024);
    const range = huge(t);
    t.madvise(range, "PAGEOUT");
    return fault(t, range, 64, "write");
  },
  "a write to a page that a child shares": () => {
    const t = kit(1024);
    const range = small(t, 6);
    t.madvise(range, "PAGEOUT");
    t.fork();
    return fault(t, range, 2, "write");
  },
  "a read of a page in the swap cache": () => {
    const t = kit(1024);
    const range = small(t, 6);
    t.madvise(range, "PAGEOUT");
    t.madvise(range, "WILLNEED");
    return fault(t, range, 2, "read");
  },
  "a read of 64 kB that come back at once": () => {
    const t = kit(1024, { "64kB": "always", "2048kB": "never" });
    const range = t.map({ pages: 32 });
    t.fill(range);
    t.madvise(range, "PAGEOUT");
    return fault(t, range, 5, "read");
  },
};

const SWAP_OFF: Readonly<Record<string, () => Scene>> = {
  "swapoff with entries of two processes": () => {
    const t = kit(1024);
    const range = small(t, 4);
    t.madvise(range, "PAGEOUT");
    const child = of(t.fork(), range);
    t.write(child, 1);
    const task = createTask(t.m, "root");
    return { t, range, op: beginSwapOff(t.m, task.id, 0).id };
  },
  "swapoff with pages in the swap cache": () => {
    const t = kit(1024);
    const range = small(t, 4);
    t.madvise(range, "PAGEOUT");
    t.madvise(range, "WILLNEED");
    t.read(range, 2);
    const task = createTask(t.m, "root");
    return { t, range, op: beginSwapOff(t.m, task.id, 0).id };
  },
};

const ALL = { ...ADVICE, ...SWAP_IN, ...SWAP_OFF };

function finish({ t, op }: Scene): void {
  release(t.m, op);
  if (findOperation(t.m, op) !== null) runToEnd(t.m, op);
}

function nrPhases(make: () => Scene): number {
  const { t, op } = make();
  let nr = 1;
  while (stepOperation(t.m, op) !== "done") {
    t.check();
    nr++;
  }
  t.check();
  return nr;
}

/** Boundaries to stop at: all of them, or of many some that move by more than a round of phases. */
function boundaries(nr: number): number[] {
  const step = nr > 40 ? Math.ceil(nr / 40) : 1;
  return Array.from({ length: Math.ceil(nr / step) }, (_, i) => i * step);
}

function heldAfter(make: () => Scene, nrSteps: number): Scene {
  const scene = make();
  for (let i = 0; i < nrSteps; i++) expect(stepOperation(scene.t.m, scene.op)).toBe("ran");
  hold(scene.t.m, scene.op);
  return scene;
}

describe("saved and restored at every phase, the end is the same", () => {
  for (const [name, make] of Object.entries(ALL)) {
    test(name, () => {
      const whole = make();
      finish(whole);
      whole.t.check();
      const wanted = digestOf(whole.t.m);
      const nr = nrPhases(make);
      expect(nr).toBeGreaterThan(1);
      for (const at of boundaries(nr)) {
        const scene = heldAfter(make, at);
        const { operations } = scene.t.m.sched;
        expect(JSON.parse(JSON.stringify(operations))).toEqual(operations);
        const fresh = createMachine({ memoryBytes: MEMORY * 2 ** 20 });
        restore(fresh, snapshot(scene.t.m));
        release(fresh, scene.op);
        runToEnd(fresh, scene.op);
        expect([at, digestOf(fresh)]).toEqual([at, wanted]);
      }
    });
  }
});

/** What others do meanwhile. None of it may lose a page that was written, nor let one be seen that is not its owner's. */
const OTHERS: Readonly<Record<string, (scene: Scene) => void>> = {
  "a read": ({ t, range }) => void t.read(range, 0),
  "a write": ({ t, range }) => void t.write(range, 2),
  "a write further on": ({ t, range }) => void t.write(range, Math.min(64, range.nrPages - 1)),
  fork: ({ t }) => void t.fork(),
  "fork, and the child writes": ({ t, range }) => {
    t.write(of(t.fork(), range), 2);
  },
  "fork, and the parent exits": ({ t }) => {
    t.fork();
    t.exit(t.mm);
  },
  "munmap of a part": ({ t, range }) => void t.munmap(part(range, 1, 2)),
  "munmap of all": ({ t, range }) => void t.munmap(range),
  "MADV_DONTNEED of a part": ({ t, range }) => void t.madvise(part(range, 0, 3), "DONTNEED"),
  "MADV_DONTNEED of all": ({ t, range }) => void t.madvise(range, "DONTNEED"),
  MADV_WILLNEED: ({ t, range }) => void t.madvise(range, "WILLNEED"),
  "MADV_PAGEOUT of all": ({ t, range }) => void t.madvise(range, "PAGEOUT"),
  "MADV_COLD of a part": ({ t, range }) => void t.madvise(part(range, 0, 3), "COLD"),
  mprotect: ({ t, range }) => void t.mprotect(part(range, 1, 2), PROT.READ),
  mlock: ({ t, range }) => void t.mlock(part(range, 0, 4)),
  "a move elsewhere": ({ t, range }) => {
    t.mremap(range, range.nrPages, { at: range.start + 2 ** 32 });
  },
  drop_caches: ({ t }) => void t.dropSlab(0),
};

/** Contents of every page that any process may read, faulted in; zeroes are zeroes however they are made. */
function memoryOf({ t, range }: Scene): string {
  const seen = t.m.mms.map((mm) => {
    if (mm === null) return "gone";
    return [range.start, range.start + 2 ** 32].map((start) => {
      const words = Array.from({ length: range.nrPages }, (_, page) =>
        contentsAt(t, mm, start + page * 4096),
      );
      return words.join();
    });
  });
  return JSON.stringify(seen);
}

function contentsAt({ m }: Kit, mm: Mm, addr: number): string {
  const place = [regionOf(addr), pteIndexOf(addr)] as const;
  const result = readPage(m, mm, ...place);
  return result < 0 && result !== NO_FAULT ? "x" : String(pageTag(m, mm, ...place));
}

/** Some of the boundaries: the first and the last, and what lies between in even steps. */
function someBoundaries(nr: number): number[] {
  const most = Math.min(nr, 6);
  const spread = Array.from({ length: most }, (_, i) => Math.round((i * (nr - 1)) / (most - 1)));
  return [...new Set(spread)];
}

/** Calls that wait for whoever has the address space locked: they let it go on, and cannot be made while it is held. */
const NEEDS_ALL = /^(fork|munmap|mprotect|mlock|a move)/;

/** What may run beside it: a thread that faults keeps its process from ending; a child that must wait cannot be asked again. */
function mayRun(what: string, name: string, control: "held" | "free"): boolean {
  if (what.includes("parent exits") && name in SWAP_IN) return false;
  return control === "free" || !NEEDS_ALL.test(what);
}

describe("whatever others do between two phases, nothing is lost", () => {
  // Without advice by which contents may go.
  const {
    "FREE of a part of a huge page": _,
    "PAGEOUT of lazily freed pages": __,
    ...keeping
  } = ALL;
  for (const [name, make] of Object.entries(keeping)) {
    const nr = nrPhases(make);
    for (const [what, act] of Object.entries(OTHERS)) {
      const controls = (["held", "free"] as const).filter((control) => mayRun(what, name, control));
      test.skipIf(controls.length === 0)(`${what} during ${name}`, () => {
        const isWrite = what.startsWith("a write");
        const look = (scene: Scene) => (isWrite ? tagless(memoryOf(scene)) : memoryOf(scene));
        const alone = make();
        finish(alone);
        act(alone);
        const wanted = look(alone);
        for (const [i, at] of someBoundaries(nr).entries()) {
          const control = controls[i % controls.length];
          const scene = heldAfter(make, at);
          if (control === "free") release(scene.t.m, scene.op);
          act(scene); // checks the whole machine
          finish(scene);
          scene.t.check();
          if (isWrite) act(scene); // one that had to wait is made again
          expect([control, at, look(scene)]).toEqual([control, at, wanted]);
        }
      });
    }
  }
});

/** A write that is made twice stores another value than one made once. */
function tagless(memory: string): string {
  return memory.replace(/\d+/g, (tag) => (tag === "0" ? "0" : "n"));
}

test("ANON-172 a folio that is pinned when it is in the swap cache already stays mapped, and is activated", () => {
  const t = kit(1024);
  const range = byPages(t);
  const scene = advise(t, range, range, "PAGEOUT");
  expect(runToPhase(t.m, scene.op, "unmap")).toBe("ran");
  const before = t.pfns(range);
  t.pin(part(range, 64, 1));
  const seen = t.deltas(() => finish(scene));
  expect(seen).toMatchObject({ pgactivate: 512 });
  expect(seen).not.toHaveProperty("pswpout");
  t.check();
  expect([t.states(range), t.pfns(range)]).toEqual(["large*512", before]);
  expect(t.write(range, 64)).toBe("none");
  t.unpin(before[64]);
  t.munmap(range);
  expect(t.swapoff()).toBe(0);
});

test("a large folio that somebody took a reference to waits in the swap cache, and is mapped again as a whole", () => {
  const t = kit(1024);
  const range = byPages(t);
  const [contents, pfns] = [t.contents(range), t.pfns(range)];
  const scene = advise(t, range, range, "PAGEOUT");
  runToPhase(t.m, scene.op, "unmap");
  const held = t.get(range);
  expect(t.deltas(() => finish(scene))).not.toHaveProperty("pswpout");
  t.check();
  expect(t.states(range)).toBe("swap*512");
  expect(t.write(range, 64)).toBe("swap-in");
  expect(t.states(range)).toBe("large*512");
  expect(t.pfns(range)).toEqual(pfns);
  expect(t.contents(range).with(64, contents[64])).toEqual(contents);
  t.put(held);
  t.munmap(range);
  expect([t.swapoff(), t.m.swap.devices[0]]).toEqual([0, null]);
});

test("PHYS-116 a page that comes to be needed while it is written out is not freed: it waits in the swap cache", () => {
  const t = kit(1024);
  const range = small(t, 1);
  const [pfn] = t.pfns(range);
  const before = t.contents(range);
  const scene = advise(t, range, range, "PAGEOUT");
  runToPhase(t.m, scene.op, "free");
  t.m.frames.refcount[pfn]++; // as a look-up in the swap cache takes it
  finish(scene);
  t.m.frames.refcount[pfn]--;
  t.check();
  expect(t.states(range)).toBe("swap*1");
  expect(t.read(range)).toBe("swap-in"); // not from the device
  expect([t.pfns(range), t.contents(range)]).toEqual([[pfn], before]);
});

test("a fault on a page that is held while it is written out waits; one that is not held goes on first", () => {
  const t = kit(1024);
  const range = small(t, 2);
  const scene = advise(t, range, range, "PAGEOUT");
  runToPhase(t.m, scene.op, "write");
  expect(t.states(range)).toBe("swap*1 small*1");
  expect(t.deltas(() => expect(t.write(range, 0)).toBe("wait"))).toEqual({ pgfault: 1 });
  release(t.m, scene.op);
  expect(t.write(range, 0)).toBe("major swap-in");
  finish(scene);
  t.check();
});

test("PHYS-112 two faults on one entry: the first to claim the slot maps the page, the other gives its own back", () => {
  const t = kit(1024);
  const range = small(t, 2);
  t.madvise(range, "PAGEOUT");
  const contents = fault(t, range, 0, "read");
  const first = fault(t, range, 1, "write");
  const second = fault(t, range, 1, "write");
  runToPhase(t.m, first.op, "read");
  runToPhase(t.m, second.op, "read");
  runToPhase(t.m, first.op, "install");
  t.check();
  const given = t.deltas(() => finish(second));
  expect(given).toEqual({});
  finish(first);
  finish(contents);
  expect(t.states(range)).toBe("small*2");
  t.check();
});

test("PHYS-118 swapoff that would wait for somebody who is held gives up with EINTR, and the device goes on", () => {
  const t = kit(1024);
  const range = small(t, 2);
  t.madvise(range, "PAGEOUT");
  const scene = fault(t, range, 1, "read");
  runToPhase(t.m, scene.op, "install");
  expect(t.swapoff()).toBe(-EINTR);
  finish(scene);
  expect(t.states(range)).toBe("small*2");
  t.madvise(range, "PAGEOUT");
  expect(t.states(range)).toBe("swap*2");
  expect([t.swapoff(), t.states(range)]).toEqual([0, "small*2"]);
});
