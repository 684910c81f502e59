import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { EAGAIN, EINVAL, ENOMEM, EPERM } from "../base/errno.ts";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { lockedPages } from "../mm/mlock.ts";
import { findVma, VM } from "../mm/vma.ts";
import { MCL, sysMlock, sysMlock2, sysMlockall, sysMunlock, sysMunlockall } from "./mlock.ts";
import { MAP, PROT, sysBrk, sysMmap, sysMremap } from "./mmap.ts";

const LOCK_BITS = VM.LOCKED | VM.LOCKONFAULT;

function lockBits(t: Kit, range: Range): number {
  return t.vma(range).flags & LOCK_BITS;
}

test("ANON-230 the range is widened to pages; length 0 locks nothing; a wrap is EINVAL", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  expect(sysMlock(t.m, t.mm, range.start + 100, 0)).toBe(0);
  expect(lockedPages(t.mm)).toBe(1); // 100 bytes into a page: that page
  expect(sysMlock(t.m, t.mm, range.start + PAGE_SIZE - 1, 2)).toBe(0);
  expect(lockedPages(t.mm)).toBe(2);
  expect(sysMlock(t.m, t.mm, range.start + 8192, 0)).toBe(0);
  expect(lockedPages(t.mm)).toBe(2);
  expect(sysMlock(t.m, t.mm, 2 ** 64 - PAGE_SIZE, 8192)).toBe(-EINVAL);
  expect(sysMlock2(t.m, t.mm, range.start, PAGE_SIZE, 2)).toBe(-EINVAL);
});

test("ANON-230 a hole ends the call: what lies before it is flagged but not populated", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  t.munmap(part(range, 1, 1));
  expect(t.mlock(range)).toBe(-ENOMEM);
  expect([lockBits(t, range), lockBits(t, part(range, 2, 1))]).toEqual([VM.LOCKED, 0]);
  expect(t.pfns(range)).toEqual([-1, -1, -1, -1]);
  expect(sysMunlock(t.m, t.mm, 65536, PAGE_SIZE)).toBe(-ENOMEM);
});

test("ANON-230 inaccessible memory is flagged, and the call fails with ENOMEM", () => {
  const t = machine();
  const range = t.map({ pages: 2, prot: PROT.NONE });
  expect(t.mlock(range)).toBe(-ENOMEM);
  expect(lockBits(t, range)).toBe(VM.LOCKED);
});

test("ANON-230 out of frames the call is EAGAIN", () => {
  const t = machine();
  const range = t.map({ pages: 64 });
  t.exhaustAll();
  expect(t.mlock(range)).toBe(-EAGAIN);
  t.release();
});

test("ANON-231 RLIMIT_MEMLOCK counts pages once, and 0 without the capability is EPERM", () => {
  const t = machine();
  const range = t.map({ pages: 8 });
  t.mm.lockLimitBytes = 4 * PAGE_SIZE;
  expect(t.mlock(part(range, 0, 5))).toBe(-ENOMEM);
  expect(t.mlock(part(range, 0, 3))).toBe(0);
  expect(t.mlock(part(range, 1, 3))).toBe(0); // two of the three are locked already
  expect(t.mlock(part(range, 4, 1))).toBe(-ENOMEM);
  const one = { address: 0, length: PAGE_SIZE, prot: 3 };
  const locked = MAP.PRIVATE | MAP.ANONYMOUS | MAP.LOCKED;
  expect(sysMmap(t.m, t.mm, { ...one, flags: locked })).toBe(-EAGAIN);
  t.mm.lockLimitBytes = 0;
  expect(t.mlock(range)).toBe(-EPERM);
  expect(sysMlockall(t.m, t.mm, MCL.CURRENT)).toBe(-EPERM);
  expect(sysMmap(t.m, t.mm, { ...one, flags: locked })).toBe(-EPERM);
  expect(t.munlock(range)).toBe(0);
});

test("ANON-236 MAP_LOCKED and MCL_FUTURE populate at once, huge only if eligible at that moment", () => {
  const t = machine(); // madvise mode: the advice comes too late
  const late = t.map({ huge: 1, flags: MAP.LOCKED, advice: "HUGEPAGE" });
  expect([t.isHuge(late), t.smaps(late).Locked]).toEqual([false, 2048]);
  t.knob("thp.enabled", "always");
  const early = t.map({ huge: 1, flags: MAP.LOCKED });
  expect([t.isHuge(early), t.smaps(early).Locked]).toEqual([true, 2048]);
  sysMlockall(t.m, t.mm, MCL.FUTURE);
  const future = t.map({ huge: 1 });
  expect([t.isHuge(future), t.smaps(future).Locked]).toEqual([true, 2048]);
  sysMunlockall(t.m, t.mm);
  expect(t.smaps(t.map({ huge: 1 })).Rss).toBe(0);
  expect(lockedPages(t.mm)).toBe(0);
});

test("ANON-236 with MCL_ONFAULT not even MAP_POPULATE populates", () => {
  const t = machine();
  expect(sysMlockall(t.m, t.mm, MCL.FUTURE | MCL.ONFAULT)).toBe(0);
  const range = t.map({ pages: 4, flags: MAP.POPULATE });
  expect([lockBits(t, range), t.smaps(range).Rss]).toEqual([LOCK_BITS, 0]);
  // Locking it properly changes the flags and populates.
  t.mlock(range);
  expect([lockBits(t, range), t.smaps(range).Locked]).toEqual([VM.LOCKED, 16]);
});

test("ANON-236 mlockall: flags that mean nothing are EINVAL; CURRENT takes everything there is", () => {
  const t = machine();
  for (const flags of [0, MCL.ONFAULT, 8, 9]) expect(sysMlockall(t.m, t.mm, flags)).toBe(-EINVAL);
  const range = t.map({ pages: 4 });
  const hidden = t.map({ pages: 2, prot: PROT.NONE });
  expect(sysMlockall(t.m, t.mm, MCL.CURRENT)).toBe(0);
  t.check();
  expect([t.smaps(range).Locked, lockBits(t, hidden)]).toEqual([16, VM.LOCKED]);
  t.mm.lockLimitBytes = PAGE_SIZE;
  expect(sysMlockall(t.m, t.mm, MCL.CURRENT)).toBe(-ENOMEM);
});

test("ANON-236 after MCL_FUTURE the heap grows locked and populated", () => {
  const t = machine();
  sysMlockall(t.m, t.mm, MCL.FUTURE);
  const { brk } = t.mm;
  expect(sysBrk(t.m, t.mm, brk + 8192)).toBe(brk + 8192);
  t.check();
  expect(t.mlocked({ mm: t.mm, start: brk, nrPages: 2 })).toEqual([true, true]);
  t.mm.lockLimitBytes = lockedPages(t.mm) * PAGE_SIZE;
  expect(sysBrk(t.m, t.mm, brk + 12288)).toBe(brk + 8192);
});

test("ANON-236 a locked mapping that grows is populated; one left behind by DONTUNMAP is unlocked", () => {
  const t = machine();
  const range = t.map({ pages: 2, flags: MAP.LOCKED });
  const grown = t.mremap(range, 16);
  expect(t.smaps(grown)).toMatchObject({ Rss: 64, Locked: 64 });
  const moved = t.mremap(grown, 16, { keepSource: true });
  expect([lockBits(t, moved), lockBits(t, grown)]).toEqual([VM.LOCKED, 0]);
  expect(t.mlocked(part(moved, 0, 2))).toEqual([true, true]);
  t.mm.lockLimitBytes = 16 * PAGE_SIZE;
  expect(sysMremap(t.m, t.mm, moved.start, 65536, 65536 + 4096, 1)).toBe(-EAGAIN);
});

test("ANON-029 droppable memory gets huge pages, is never locked and starts empty in a child", () => {
  const t = machine({ enabled: "always" });
  const length = 2 ** 21;
  const map = (flags: number) =>
    sysMmap(t.m, t.mm, { address: 0, length, prot: 3, flags: MAP.DROPPABLE | flags });
  for (const flags of [0, MAP.ANONYMOUS | MAP.LOCKED, MAP.ANONYMOUS | MAP.GROWSDOWN])
    expect(map(flags)).toBe(-EINVAL);
  const range = { mm: t.mm, start: map(MAP.ANONYMOUS), nrPages: 512 };
  expect(t.write(range)).toBe("anon 2M");
  expect([t.mlock(range), lockBits(t, range)]).toEqual([0, 0]);
  for (const advice of ["KEEPONFORK", "DODUMP"] as const)
    expect(t.madvise(range, advice)).toBe(-EINVAL);
  const child = { ...range, mm: t.fork() };
  expect(t.smaps(child).Rss).toBe(0);
  sysMlockall(t.m, t.mm, MCL.FUTURE);
  const start = map(MAP.ANONYMOUS); // populated, but not locked
  expect(t.smaps({ mm: t.mm, start, nrPages: 512 })).toMatchObject({ Rss: 2048, Locked: 0 });
});

test("ANON-238 locked memory refuses to be dropped, but for MADV_DONTNEED_LOCKED", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.mlock(range);
  for (const advice of ["DONTNEED", "FREE"] as const)
    expect(t.madvise(part(range, 0, 1), advice)).toBe(-EINVAL);
  expect(t.thpDeltas(() => t.madvise(part(range, 0, 4), "DONTNEED_LOCKED"))).toMatchObject({
    thp_split_pmd: 1,
    thp_deferred_split_page: 1,
  });
  expect(findVma(t.mm.vmas, range.start)!.flags & VM.LOCKED).not.toBe(0);
});
