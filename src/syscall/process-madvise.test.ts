import { describe, expect, test } from "vitest";
import { HUGE_SIZE } from "../base/address.ts";
import { EACCES, EBADF, EFAULT, EINVAL, EPERM, ESRCH } from "../base/errno.ts";
import { machine, of } from "../machine/test-kit.ts";
import { MADV } from "./madvise.ts";
import { type PidfdTarget, sysProcessMadvise } from "./process-madvise.ts";

function twoProcesses(profile: "linux-6.18" | "linux-6.12" = "linux-6.18") {
  const t = machine({ profile });
  const range = t.map({ pages: 512 });
  t.fill(range);
  const child = t.fork();
  const advise = (target: PidfdTarget, advice: number) =>
    sysProcessMadvise(t.m, t.mm, target, [{ start: range.start, length: HUGE_SIZE }], advice);
  return { t, range, child, advise };
}

describe("the rights of the caller", () => {
  test("COLL-262 another process needs ptrace access and CAP_SYS_NICE, one's own memory neither", () => {
    const { t, child, advise } = twoProcesses();
    expect(advise({ mm: child, rights: "none" }, MADV.COLLAPSE)).toBe(-EACCES);
    expect(advise({ mm: child, rights: "noNice" }, MADV.COLLAPSE)).toBe(-EPERM);
    expect(advise({ mm: t.mm, rights: "none" }, MADV.COLLAPSE)).toBe(HUGE_SIZE);
    expect(advise({ mm: child }, MADV.COLLAPSE)).toBe(HUGE_SIZE);
  });

  test("COLL-261 since 6.18 the advice is looked at after the access, before it in 6.12", () => {
    const later = twoProcesses();
    const earlier = twoProcesses("linux-6.12");
    for (const [{ child, advise }, wanted] of [
      [later, -EACCES],
      [earlier, -EINVAL],
    ] as const)
      expect(advise({ mm: child, rights: "none" }, MADV.DONTNEED)).toBe(wanted);
  });
});

test("COLL-506 6.12 knows no PIDFD_SELF, and takes no other advice for oneself than for others", () => {
  const { t, range, advise } = twoProcesses("linux-6.12");
  expect(advise("self", MADV.COLLAPSE)).toBe(-EBADF);
  expect(advise({ mm: t.mm }, MADV.HUGEPAGE)).toBe(-EINVAL);
  t.fill(range);
  expect(advise({ mm: t.mm }, MADV.COLLAPSE)).toBe(HUGE_SIZE);
  expect(t.isHuge(range)).toBe(true);
});

test("COLL-260 each check comes before those of what is named later", () => {
  const { t, child } = twoProcesses();
  const call = (vector: Parameters<typeof sysProcessMadvise>[3], flags = 0) =>
    sysProcessMadvise(t.m, t.mm, "notAPidfd", vector, MADV.COLLAPSE, flags);
  expect(call(null, 1)).toBe(-EINVAL);
  expect(call(Array(1025).fill({ start: 0, length: -1 }))).toBe(-EINVAL);
  expect(call(null)).toBe(-EFAULT);
  expect(call([{ start: 0, length: -1 }])).toBe(-EINVAL);
  expect(call([{ start: 2 ** 47, length: 4096 }])).toBe(-EFAULT);
  expect(call([{ start: 0, length: 0 }])).toBe(-EBADF);
  expect(sysProcessMadvise(t.m, t.mm, "noMemory", [], 99)).toBe(-ESRCH);
  expect(sysProcessMadvise(t.m, t.mm, { mm: child }, [], 99)).toBe(-EINVAL);
  expect(sysProcessMadvise(t.m, t.mm, "self", [], 99)).toBe(0);
});

test("COLL-266 the target's own state decides, not the caller's", () => {
  const { t, range, child, advise } = twoProcesses();
  t.mm.thpDisable = "all";
  expect(advise({ mm: child }, MADV.COLLAPSE)).toBe(HUGE_SIZE);
  expect([t.isHuge(range), t.isHuge(of(child, range))]).toEqual([false, true]);
  expect(advise("self", MADV.COLLAPSE)).toBe(-EINVAL);
});
