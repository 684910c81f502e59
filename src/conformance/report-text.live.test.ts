import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { KPF } from "../report/kpage.ts";
import { modeOfSysfs, sysfsFiles, THP_SYSFS, writeSysfs } from "../report/sysfs.ts";
import { MADV } from "../syscall/madvise.ts";
import { MAP, PROT } from "../syscall/mmap.ts";
import { withLiveKnobs } from "./knob-lock.ts";
import { LiveActor, reasonAgainstLive } from "./live-actor.ts";
import { ModelActor } from "./model-actor.ts";
import { fieldOf, windowBlocks } from "./proc-lines.ts";
import type { Actor, Step } from "./steps.ts";

const reason = reasonAgainstLive();
if (reason !== null) console.warn(`live tests left out: ${reason}`);

const RW = PROT.READ | PROT.WRITE;
const PRIVATE = MAP.PRIVATE | MAP.ANONYMOUS | MAP.FIXED_NOREPLACE;
const SHARED = MAP.SHARED | MAP.ANONYMOUS | MAP.FIXED_NOREPLACE;
/** One THP, written once, in a VMA of 4 MiB. */
const ONE_THP: readonly Step[] = [
  ["map", 0, 1024, RW, PRIVATE],
  ["madvise", 0, 1024, MADV.HUGEPAGE],
  ["write", 0, 1],
];

/** What is done, by what it shows. Each runs in a fresh process on both sides. */
const SCRIPTS: Readonly<Record<string, readonly Step[]>> = {
  "PROC-001 PROC-010 PROC-011 empty mappings of every protection": [
    ["map", 0, 1, PROT.NONE, PRIVATE],
    ["map", 2, 1, PROT.READ, PRIVATE],
    ["map", 4, 3, RW, PRIVATE],
    ["map", 8, 1, RW | PROT.EXEC, PRIVATE],
    ["map", 600, 700, RW, PRIVATE | MAP.NORESERVE],
  ],
  "PROC-014 PROC-017 PROC-041 a huge page beside small ones": [
    ...ONE_THP,
    ["madvise", 512, 512, MADV.NOHUGEPAGE],
    ["write", 515, 20],
    ["read", 700, 3],
  ],
  "PROC-013 PROC-042 zero pages, small and huge": [
    ["map", 0, 2048, RW, PRIVATE],
    ["madvise", 0, 1024, MADV.HUGEPAGE],
    ["madvise", 1024, 1024, MADV.NOHUGEPAGE],
    ["read", 0, 1],
    ["read", 1100, 5],
  ],
  "PROC-014 PROC-054 a fork shares everything": [
    ...ONE_THP,
    ["map", 2048, 30, RW, PRIVATE],
    ["write", 2048, 10],
    ["fork"],
  ],
  "PROC-014 three processes share, the first writes again": [
    ...ONE_THP,
    ["map", 2048, 30, RW, PRIVATE],
    ["write", 2048, 10],
    ["fork"],
    ["fork"],
    ["write", 2050, 2],
    ["write", 3, 1],
  ],
  "PROC-017 PROC-052 a split mapping and a hole": [
    ...ONE_THP,
    ["madvise", 5, 1, MADV.DONTNEED],
    ["mprotect", 100, 100, PROT.READ],
  ],
  "PROC-004 PROC-022 VMAs split and merge, letters of every advice": [
    ["map", 0, 64, RW, PRIVATE],
    ["madvise", 1, 1, MADV.SEQUENTIAL],
    ["madvise", 3, 1, MADV.RANDOM],
    ["madvise", 5, 1, MADV.DONTFORK],
    ["madvise", 7, 1, MADV.WIPEONFORK],
    ["madvise", 9, 1, MADV.DONTDUMP],
    ["madvise", 11, 1, MADV.HUGEPAGE],
    ["madvise", 13, 1, MADV.NOHUGEPAGE],
    ["madvise", 15, 1, MADV.MERGEABLE],
    ["madvise", 17, 2, MADV.HUGEPAGE],
    ["madvise", 20, 1, MADV.DONTDUMP],
    ["madvise", 20, 1, MADV.DODUMP],
    ["map", 70, 4, RW, PRIVATE | MAP.GROWSDOWN],
    ["map", 80, 4, RW, SHARED],
    ["map", 90, 4, PROT.READ, SHARED],
  ],
  "PROC-003 PROC-041 shared anonymous memory": [
    ["map", 0, 8, RW, SHARED],
    ["write", 1, 3],
    ["read", 5, 1],
    ["fork"],
  ],
  "PROC-052 the exclusive bit of a page-mapped folio is its head's": [
    ...ONE_THP,
    ["mprotect", 100, 100, PROT.READ],
    ["fork"],
    ["exit", 1],
    ["write", 5, 1],
    ["write", 300, 1],
  ],
  "PROC-052 the exclusive bit of a head shows on its tails": [
    ...ONE_THP,
    ["mprotect", 100, 100, PROT.READ],
    ["fork"],
    ["exit", 1],
    ["write", 0, 1],
  ],
  "PROC-041 bit 56 of a huge mapping is its first page's": [...ONE_THP, ["fork"], ["unmap", 1, 1]],
  "PROC-016 LazyFree of a huge page, half of it": [...ONE_THP, ["madvise", 0, 256, MADV.FREE]],
  "PROC-016 PROC-052 LazyFree of a whole huge page": [...ONE_THP, ["madvise", 0, 512, MADV.FREE]],
  "PROC-020 PROC-030 only advised memory may be huge": [
    ["thpDisable", 1, 2],
    ["map", 0, 1024, RW, PRIVATE],
    ["madvise", 0, 512, MADV.HUGEPAGE],
    ["write", 0, 1],
    ["write", 600, 1],
  ],
  "PROC-019 PROC-030 PROC-052 locked memory, huge and small": [
    ...ONE_THP,
    ["map", 2048, 8, RW, PRIVATE],
    ["write", 2048, 3],
    ["mlock", 0, 512],
    ["mlock", 2049, 3],
    ["mlock2", 2054, 1, 1],
    ["fork"],
    ["munlock", 2050, 1],
  ],
  "PROC-019 a lock on part of a huge page": [...ONE_THP, ["mlock2", 100, 100, 1], ["write", 3, 1]],
  "PROC-040 PROC-076 guard pages in a huge page": [
    ...ONE_THP,
    ["madvise", 5, 2, MADV.GUARD_INSTALL],
    ["madvise", 100, 1, MADV.GUARD_INSTALL],
    ["madvise", 6, 1, MADV.GUARD_REMOVE],
    ["write", 6, 1],
  ],
  "PROC-052 a dirty mapping that goes leaves anonymous memory as clean as it was": [
    ...ONE_THP,
    ["map", 2048, 8, RW, PRIVATE],
    ["write", 2048, 8],
    ["fork"],
    ["madvise", 0, 512, MADV.DONTNEED],
    ["unmap", 2049, 3],
  ],
  "PROC-016 LazyFree": [
    ["map", 0, 64, RW, PRIVATE],
    ["madvise", 0, 64, MADV.NOHUGEPAGE],
    ["write", 0, 64],
    ["madvise", 8, 16, MADV.FREE],
    ["write", 10, 2],
  ],
  "PROC-020 THPeligible by size, place and advice": [
    ["map", 0, 512, RW, PRIVATE],
    ["madvise", 0, 512, MADV.HUGEPAGE],
    ["map", 1030, 600, RW, PRIVATE],
    ["madvise", 1030, 600, MADV.HUGEPAGE],
    ["map", 2048, 1100, RW, PRIVATE],
    ["map", 4097, 1100, RW, PRIVATE],
    ["madvise", 4097, 1100, MADV.HUGEPAGE],
  ],
  "PROC-020 PROC-030 a process without huge pages": [...ONE_THP, ["thpDisable", 1, 0]],
};

/** Pages of the window that the scripts use, looked at one by one. */
const LOOKED_AT = [0, 1, 2, 3, 5, 8, 10, 100, 200, 511, 512, 515, 600, 700, 1100, 2048, 2050];
/** Others clear accessed bits, so REFERENCED does not repeat. */
const UNSTABLE_FLAG = 2 ** KPF.REFERENCED;
/** Lines of status whose change is compared. */
const STATUS = "VmSize VmLck RssAnon RssShmem VmData VmPTE VmSwap".split(" ");

interface Seen {
  readonly results: readonly number[];
  readonly maps: readonly string[][];
  readonly smaps: readonly string[][];
  readonly numaMaps: readonly string[][];
  /** Per process and page looked at: pagemap without the frame number, kpageflags, kpagecount. */
  readonly pages: readonly (readonly string[])[];
  readonly status: Readonly<Record<string, number>>;
}

/** Performs the steps and looks at every process. */
async function observe(actor: Actor, steps: readonly Step[]): Promise<Seen> {
  await actor.settle();
  const before = actor.view(0).read("status");
  const results: number[] = [];
  for (const step of steps) results.push(await actor.perform(step));
  await actor.settle();
  const gone = steps.flatMap((step) => (step[0] === "exit" ? [step[1]] : []));
  const started = results.filter((_, i) => steps[i][0] === "fork");
  const running = [0, ...started].filter((process) => !gone.includes(process));
  const views = running.map((process) => actor.view(process));
  const after = views[0].read("status");
  return {
    results,
    maps: views.map((view) => windowBlocks(view.read("maps"))),
    smaps: views.map((view) => windowBlocks(view.read("smaps"))),
    numaMaps: views.map((view) => windowLines(view.read("numa_maps"))),
    pages: views.map((view) =>
      LOOKED_AT.map((page) => {
        const [[low, high]] = view.pagemap(page, 1);
        const frame = view.frames(page, 1)[0];
        // Without a frame the word is all there is to compare.
        if (frame === null) return `${page}: ${high.toString(16)} ${low.toString(16)}`;
        const bits = (high & 0xff800000) >>> 0;
        return `${page}: ${bits.toString(16)} ${stableFlags(frame[0])} ${frame[1]}`;
      }),
    ),
    status: Object.fromEntries(
      STATUS.map((name) => [name, fieldOf(after, name) - fieldOf(before, name)]),
    ),
  };
}

function windowLines(text: string): string[] {
  return text.split("\n").filter((line) => /^10[0-9a-f]{10} /.test(line));
}

function stableFlags(word: number): string {
  const isSet = Math.floor(word / UNSTABLE_FLAG) % 2 === 1;
  return (word - (isSet ? UNSTABLE_FLAG : 0)).toString(16);
}

/** The kernel's side; a difference must show in three fresh processes to count. */
async function observeLive(steps: readonly Step[], expected: Seen): Promise<Seen> {
  let seen: Seen = expected;
  for (let attempt = 0; attempt < 3; attempt++) {
    const actor = new LiveActor();
    try {
      seen = await observe(actor, steps);
    } finally {
      actor.stop();
    }
    if (JSON.stringify(seen) === JSON.stringify(expected)) break;
  }
  return seen;
}

/** A model process under the running kernel's knobs. */
function modelWithLiveKnobs(): ModelActor {
  const actor = new ModelActor();
  for (const path of sysfsFiles()) {
    if (modeOfSysfs(path) !== 0o644) continue;
    const text = readFileSync(path, "latin1");
    const word = /\[(.*)\]/.exec(text)?.[1] ?? text.trim();
    expect([path, writeSysfs(actor.m, path, word)]).toEqual([path, word.length]);
  }
  return actor;
}

describe.skipIf(reason !== null)("the same steps on the model and on the running kernel", () => {
  for (const [title, steps] of Object.entries(SCRIPTS))
    test(`${title}: maps, smaps, numa_maps, pagemap, kpageflags, kpagecount and status agree`, async () => {
      const model = await observe(modelWithLiveKnobs(), steps);
      expect(await observeLive(steps, model)).toEqual(model);
    });

  test("PROC-017 PROC-020 PROC-053 folios of 64 kB: the same files agree", async () => {
    const steps: readonly Step[] = [
      ["map", 0, 40, RW, PRIVATE],
      ["madvise", 0, 40, MADV.HUGEPAGE],
      ["write", 3, 1],
      ["fork"],
      ["write", 5, 1],
      ["madvise", 8, 2, MADV.DONTNEED],
    ];
    const knob = `${THP_SYSFS}/hugepages-64kB/enabled`;
    await withLiveKnobs({ [knob]: "madvise" }, async () => {
      const model = await observe(modelWithLiveKnobs(), steps);
      expect(model.smaps[0][0]).toContain("THPeligible:           1\n");
      expect(await observeLive(steps, model)).toEqual(model);
    });
  });
});
