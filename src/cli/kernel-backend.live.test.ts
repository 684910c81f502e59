/**
 * Every verb on the running kernel, with what the rules say must come of it, and what happens when things die.
 */

import { readdirSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { PAGE_BIT } from "../scenario/observation.ts";
import type { Action, Header } from "../scenario/syntax.ts";
import { createKernelBackend, type KernelBackend } from "./kernel-backend.ts";
import {
  by,
  header,
  MIB,
  madvise,
  map,
  pages,
  rangeOf,
  statesOf,
  thpCounters,
} from "./kernel-statements.fixture.ts";

const kernel = createKernelBackend();
afterAll(() => kernel.close());

const HUGE_FAULT = { thp_fault_alloc: 1, "2048kB/anon_fault_alloc": 1, "2048kB/nr_anon": 1 };

/** Runs actions of main ("C" for a pair) in a fresh scenario; gives the results: numbers, or signals. */
function run(given: Header, actions: readonly (Action | readonly [string, Action])[]) {
  kernel.begin(given);
  const results = actions.map((entry) => {
    const [actor, action] = "verb" in entry ? (["main", entry] as const) : entry;
    const result = kernel.step(by(actor, action));
    if (result.kind === "value") return result.value;
    return result.kind === "signal" ? result.signal : `wrong contents of page ${result.page}`;
  });
  return results;
}

function look(backend: KernelBackend = kernel) {
  return backend.observe({ isDrained: true });
}

describe("memory of one process", () => {
  test("a write in advised memory makes one huge page", () => {
    const results = run(header(), [
      map("R", 2 * MIB),
      madvise(pages("R"), "HUGEPAGE"),
      { verb: "write", span: pages("R", 5, 6) },
    ]);

    const seen = look();
    expect(results).toEqual([0, 0, 0]);
    expect(statesOf(seen, "main", "R")).toBe("huge*512");
    expect(thpCounters(seen)).toEqual(HUGE_FAULT);
    expect(seen.processes[0].vmas).toHaveLength(1);
    expect(seen.processes[0].vmas[0]).toMatchObject({ permissions: "rw-p" });
    expect(seen.processes[0].vmas[0].flags).toContain("hg");
    expect(seen.processes[0].vmas[0].smaps).toMatchObject({ Rss: 2048, AnonHugePages: 2048 });
    expect(seen.processes[0].status).toMatchObject({ RssAnon: 2048, VmLck: 0, THP_enabled: 1 });
    expect([seen.processes[0].minflt, seen.processes[0].majflt]).toEqual([1, 0]);
  });

  test("a page unmapped from a huge page leaves the others mapped one by one", () => {
    run(header(), [
      map("R", 2 * MIB),
      madvise(pages("R"), "HUGEPAGE"),
      { verb: "write", span: pages("R") },
      { verb: "unmap", span: pages("R", 1, 2) },
    ]);

    const seen = look();
    expect(statesOf(seen, "main", "R")).toBe("part*1 unmapped*1 part*510");
    expect(rangeOf(seen, "main", "R").pages.index.slice(0, 3)).toEqual(new Int32Array([0, 0, 2]));
    expect(run(header(), [map("R", 4096), { verb: "read", span: pages("R", 0, 2) }])).toEqual([
      0,
      "SIGSEGV",
    ]);
  });

  test("protect, mseal and remap return what the kernel returns", () => {
    const results = run(header(), [
      map("R", 2 * MIB),
      { verb: "write", span: pages("R", 0, 4) },
      { verb: "protect", span: pages("R"), prot: "r" },
      { verb: "write", span: pages("R", 0, 1) },
      { verb: "protect", span: pages("R"), prot: "rw" },
      { verb: "remap", span: pages("R"), to: "S", flags: [] },
      { verb: "read", span: pages("S", 0, 4) },
      { verb: "remap", span: pages("S", 0, 1), to: "T", sizeBytes: 8192, flags: ["inplace"] },
      { verb: "mseal", span: pages("S") },
      { verb: "unmap", span: pages("S") },
    ]);

    // -12: the next page is taken, so the range cannot grow in place; -1: sealed.
    expect(results).toEqual([0, 0, 0, "SIGSEGV", 0, 0, 0, -12, 0, -1]);
    expect(statesOf(look(), "main", "R")).toBe("unmapped*512");
    expect(statesOf(look(), "main", "S")).toBe("small*4 none*508");
  });

  test("the heap grows and shrinks from a 2 MiB boundary", () => {
    const results = run(header(), [
      { verb: "brk", sizeBytes: 3 * MIB },
      { verb: "write", span: pages("heap", 0, 2) },
      { verb: "brk", sizeBytes: 4096 },
    ]);

    const seen = look();
    expect(results).toEqual([0, 0, 0]);
    expect(statesOf(seen, "main", "heap")).toBe("small*1 unmapped*767");
    expect(rangeOf(seen, "main", "heap").start % (2 * MIB)).toBe(0);
  });

  test("where the kernel chooses, an otherwise empty address space is filled from the top", () => {
    run(header(), [map("A", 2 * MIB, "anywhere"), map("B", 4096, "anywhere")]);

    const seen = look();
    expect(rangeOf(seen, "main", "A").start).toBe(0x7ffff7c00000);
    expect(rangeOf(seen, "main", "B").start).toBe(0x7ffff7ffe000);
  });

  test("kinds of mappings and locks show in the VMA's flags", () => {
    run(header(), [
      map("Z", 4096, "zerofile"),
      map("D", 4096, "droppable"),
      map("K", 4096, "stack"),
      map("G", 4096, "growsdown"),
      map("H", 4096, "shared"),
      map("L", 4096, "locked", "populate", "noreserve"),
    ]);

    const flags = look().processes[0].vmas.map((vma) => vma.flags);
    expect(flags).toHaveLength(6);
    expect(flags[1]).toContain("dp");
    expect(flags[2]).toContain("nh");
    expect(flags[3]).toContain("gd");
    expect(flags[4]).toContain("sh");
    expect(flags[5]).toEqual(expect.arrayContaining(["lo"]));
    expect(statesOf(look(), "main", "L")).toBe("small*1");
  });

  test("locks count what the scenario locked, not what the process is made of", () => {
    const results = run(header(), [
      map("R", 2 * MIB),
      { verb: "mlock2", span: pages("R", 0, 4), flags: ["onfault"] },
      { verb: "mlock", span: pages("R", 4, 8) },
      { verb: "munlock", span: pages("R", 0, 1) },
    ]);
    expect(results).toEqual([0, 0, 0, 0]);
    expect(look().processes[0].status.VmLck).toBe(28);
    expect(statesOf(look(), "main", "R")).toBe("none*4 small*4 none*504");

    run(header(), [
      map("R", 8192),
      { verb: "write", span: pages("R", 0, 1) },
      { verb: "mlockall", flags: ["current"] },
    ]);
    expect(look().processes[0].status).toMatchObject({ VmLck: 8, RssAnon: 8 });
    expect(kernel.step(by("main", { verb: "munlockall" }))).toEqual({ kind: "value", value: 0 });
    expect(look().processes[0].status.VmLck).toBe(0);
  });

  test("mincore tells resident pages, peek tells contents without touching", () => {
    run(header(), [
      map("R", 4 * 4096),
      { verb: "write", span: pages("R", 0, 1) },
      { verb: "read", span: pages("R", 2, 3) },
    ]);

    const result = kernel.step(by("main", { verb: "mincore", span: pages("R") }));
    expect(result).toEqual({ kind: "value", value: 0, resident: [1, 0, 1, 0] });
    expect(kernel.peek("main", pages("R"))).toEqual(["written", "none", "zero", "none"]);
    expect(statesOf(look(), "main", "R")).toBe("small*1 none*1 zero*1 none*1");
  });

  test("guard pages refuse access and are seen", () => {
    const results = run(header(), [
      map("R", 8192),
      madvise(pages("R", 0, 1), "GUARD_INSTALL"),
      { verb: "write", span: pages("R", 0, 1) },
    ]);

    expect(results).toEqual([0, 0, "SIGSEGV"]);
    expect(statesOf(look(), "main", "R")).toBe("guard*1 none*1");
  });

  test("prctl sets and gets the mode of the process", () => {
    const set = (...args: number[]): Action => ({ verb: "prctl", op: "set", args });
    const get: Action = { verb: "prctl", op: "get", args: [0, 0, 0, 0] };
    expect(
      run(header(), [get, set(1, 0, 0, 0), get, set(1, 2, 0, 0), get, set(1, 1, 0, 0)]),
    ).toEqual([0, 0, 1, 0, 3, -22]);
  });
});

describe("several processes", () => {
  test("a write after fork splits the writer's mapping and copies one page", () => {
    run(header(), [
      map("R", 2 * MIB),
      madvise(pages("R"), "HUGEPAGE"),
      { verb: "write", span: pages("R") },
      { verb: "fork", name: "C" },
      ["C", { verb: "write", span: pages("R", 3, 4) }],
      { verb: "read", span: pages("R") },
      ["C", { verb: "read", span: pages("R") }],
    ]);

    const seen = look();
    expect(statesOf(seen, "main", "R")).toBe("huge*512");
    expect(statesOf(seen, "C", "R")).toBe("part*3 small*1 part*508");
    const [mine, its] = ["main", "C"].map((name) => rangeOf(seen, name, "R").pages);
    expect([mine.folio[3], its.folio[0], its.folio[3]]).toEqual([0, 0, 1]);
    expect([mine.mapcount[0], mine.mapcount[3], its.mapcount[3]]).toEqual([2, 1, 1]);
    expect(its.bits[3] & PAGE_BIT.EXCLUSIVE).toBe(1);
    expect(thpCounters(seen)).toEqual({ ...HUGE_FAULT, thp_split_pmd: 1 });
    expect(seen.processes.map(({ minflt }) => minflt)).toEqual([1, 1]);
  });

  test("a process that exits is gone, its memory with it", () => {
    run(header(), [
      map("R", 8192),
      { verb: "write", span: pages("R") },
      { verb: "fork", name: "C" },
      ["C", { verb: "fork", name: "D" }],
      ["C", { verb: "exit" }],
      ["D", { verb: "write", span: pages("R", 0, 1) }],
    ]);

    const seen = look();
    expect(seen.processes.map(({ name }) => name)).toEqual(["main", "D"]);
    expect([...rangeOf(seen, "main", "R").pages.mapcount]).toEqual([1, 2]);
  });

  test("threads act in their process, fork from it and end alone", () => {
    run(header(), [
      map("R", 8192),
      { verb: "thread", name: "T" },
      ["T", { verb: "write", span: pages("R", 0, 1) }],
      ["T", { verb: "fork", name: "C" }],
      ["C", { verb: "read", span: pages("R") }],
      ["T", { verb: "exit" }],
      { verb: "read", span: pages("R") },
    ]);

    expect(look().processes.map(({ name }) => name)).toEqual(["main", "C"]);
    expect(statesOf(look(), "main", "R")).toBe("small*1 zero*1");
  });

  test("a pin makes fork copy at once, a plain reference does not", () => {
    const before: Action[] = [
      map("R", 2 * MIB),
      madvise(pages("R"), "HUGEPAGE"),
      { verb: "write", span: pages("R", 0, 1) },
    ];
    run(header(), [
      ...before,
      { verb: "pin", name: "X", span: pages("R", 0, 8) },
      { verb: "fork", name: "C" },
    ]);
    expect(statesOf(look(), "C", "R")).toBe("small*512");
    expect(look().processes[0].status.VmPin).toBe(2048);
    const released = kernel.step(by("main", { verb: "release", name: "X" }));
    expect(released).toEqual({ kind: "value", value: 0 });
    expect(look().processes[0].status.VmPin).toBe(0);

    const results = run(header(), [
      ...before,
      { verb: "hold-page", name: "X", span: pages("R", 3, 4) },
      { verb: "fork", name: "C" },
      { verb: "release", name: "X" },
    ]);
    expect(results.slice(3)).toEqual([0, 0, 0]);
    expect(statesOf(look(), "C", "R")).toBe("huge*512");
  });
});

describe("the whole system", () => {
  test("knobs are written, refused and read as the files are", () => {
    const results = run(header({ "thp.enabled": "never" }), [
      { verb: "knob", name: "thp.use_zero_page", value: "0" },
      { verb: "knob", name: "thp.enabled", value: "sometimes" },
      { verb: "knob", name: "khugepaged.max_ptes_none", value: "512" },
    ]);

    expect(results).toEqual([0, -22, -22]);
    expect(kernel.readKnob("thp.enabled")).toBe("always madvise [never]\n");
    expect(kernel.readKnob("thp.use_zero_page")).toBe("0\n");
    expect(kernel.readKnob("thp.hugepages-2048kB.enabled")).toBe(
      "always [inherit] madvise never\n",
    );
  });

  test("a memory cgroup refuses the huge page and takes the small one", () => {
    run(header(), [
      { verb: "memcg", name: "G", maxBytes: MIB },
      { verb: "join", name: "G" },
      map("R", 2 * MIB),
      madvise(pages("R"), "HUGEPAGE"),
      { verb: "write", span: pages("R", 0, 1) },
      { verb: "limit", name: "G", maxBytes: 64 * MIB },
    ]);

    expect(statesOf(look(), "main", "R")).toBe("small*1 none*511");
    expect(thpCounters(look())).toEqual({
      thp_fault_fallback: 1,
      thp_fault_fallback_charge: 1,
      "2048kB/anon_fault_fallback": 1,
      "2048kB/anon_fault_fallback_charge": 1,
    });
    kernel.end();
    expect(kernel.wasDisturbed()).toBe(false);
  });

  test("memory goes to a swap device of our own and comes back", () => {
    const results = run(header({}, 64 * MIB), [
      map("R", 64 * 4096),
      { verb: "write", span: pages("R") },
      madvise(pages("R"), "PAGEOUT"),
    ]);
    expect(results).toEqual([0, 0, 0]);
    expect(statesOf(look(), "main", "R")).toBe("swapped*64");
    expect(look().processes[0].status.VmSwap).toBe(256);

    expect(kernel.step(by("main", { verb: "swapoff" }))).toEqual({ kind: "value", value: 0 });
    expect(statesOf(look(), "main", "R")).toBe("small*64");
    expect(kernel.step(by("main", { verb: "swapon" }))).toEqual({ kind: "value", value: 0 });
    expect(kernel.step(by("main", { verb: "read", span: pages("R") }))).toEqual({
      kind: "value",
      value: 0,
    });
  });

  test("dropping caches splits a huge page of which a part was given back", () => {
    run(header(), [
      map("R", 2 * MIB),
      madvise(pages("R"), "HUGEPAGE"),
      { verb: "write", span: pages("R") },
      madvise(pages("R", 1, 2), "DONTNEED"),
      { verb: "drop-caches" },
      { verb: "mark" },
    ]);

    expect(statesOf(look(), "main", "R")).toBe("small*1 none*1 small*510");
  });
});

/** Everything that a scenario may change on this host. */
function hostState() {
  const thp = "/sys/kernel/mm/transparent_hugepage";
  const files = readdirSync(thp, { recursive: true, encoding: "utf8" }).filter((path) =>
    /(enabled|defrag|use_zero_page|shrink_underused|max_ptes_\w+|pages_to_scan|millisecs)$/.test(
      path,
    ),
  );
  return {
    knobs: files.map((file) => [file, readFileSync(`${thp}/${file}`, "utf8")]),
    devices: readdirSync("/sys/block"),
    swaps: readFileSync("/proc/swaps", "utf8"),
    groups: readFileSync("/proc/self/mounts", "utf8").includes(" /sys/fs/cgroup/memory ")
      ? readdirSync("/sys/fs/cgroup/memory").filter((name) => name.startsWith("hugelab-"))
      : [],
  };
}

/** Process numbers of all descendants of `pid`. */
function familyOf(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const parent = parentOf(Number(name));
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const family = [pid];
  for (const member of family) family.push(...(children.get(member) ?? []));
  return family;
}

function parentOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return -1;
  }
}

/** A process that has ended and was not yet waited for counts as ended. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

/** Waits until `isSo`, for at most ten seconds. */
function until(isSo: () => boolean): void {
  const wait = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < 1000 && !isSo(); i++) Atomics.wait(wait, 0, 0, 10);
}

describe("when things die", () => {
  /** A scenario in the middle that has changed everything it can change. */
  function inTheMiddle(backend: KernelBackend): void {
    const knobs = { "thp.enabled": "always", "thp.hugepages-64kB.enabled": "madvise" };
    backend.begin(header(knobs, 32 * MIB));
    const actions: Action[] = [
      map("R", 4 * MIB),
      { verb: "write", span: pages("R") },
      { verb: "fork", name: "C" },
      { verb: "memcg", name: "G", maxBytes: 64 * MIB },
      { verb: "join", name: "G" },
      { verb: "knob", name: "khugepaged.max_ptes_none", value: "7" },
    ];
    for (const action of actions) backend.step(by("main", action));
  }

  test("after SIGKILL in the middle everything is as before and no process is left", () => {
    kernel.end();
    kernel.close();
    const before = hostState();
    const backend = createKernelBackend();
    inTheMiddle(backend);
    const family = familyOf(backend.supervisorPid);
    expect(hostState()).not.toEqual(before);
    // The supervisor, its watchdog, the two processes of the scenario.
    expect(family.length).toBeGreaterThanOrEqual(4);

    process.kill(backend.supervisorPid, "SIGKILL");

    expect(() => backend.observe({ isDrained: false })).toThrow("ended unexpectedly");
    until(() => family.every((pid) => !isAlive(pid)));
    expect(family.filter(isAlive)).toEqual([]);
    expect(hostState()).toEqual(before);

    // And it can start again.
    backend.begin(header());
    expect(backend.step(by("main", map("R", 4096)))).toEqual({ kind: "value", value: 0 });
    backend.close();
    expect(hostState()).toEqual(before);
  });

  test("a process of the scenario that dies is reported, and the next scenario runs", () => {
    const backend = createKernelBackend();
    inTheMiddle(backend);
    const victims = familyOf(backend.supervisorPid).filter((pid) =>
      readFileSync(`/proc/${pid}/maps`, "utf8").startsWith("00400000"),
    );
    const actors = victims.filter((pid) =>
      readFileSync(`/proc/${pid}/maps`, "utf8").includes("100040000000-"),
    );
    expect(actors).toHaveLength(2);
    for (const pid of actors) process.kill(pid, "SIGKILL");
    until(() => !actors.some(isAlive));

    expect(() => backend.step(by("main", { verb: "read", span: pages("R", 0, 1) }))).toThrow(
      "died",
    );

    backend.begin(header());
    expect(backend.step(by("main", map("R", 4096)))).toEqual({ kind: "value", value: 0 });
    backend.close();
  });
});
