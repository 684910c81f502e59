import { expect, test } from "vitest";
import { EBUSY, EHWPOISON, EINVAL, EOPNOTSUPP } from "../base/errno.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { PG } from "../phys/frame-table.ts";
import { meminfoText } from "../report/meminfo.ts";
import { MADV, sysMadvise } from "../syscall/madvise.ts";

function failing(options = {}): Kit {
  return machine({ enabled: "always", memoryFailure: "on", ...options });
}

function filled(t: Kit): Range {
  const range = t.map({ huge: 1 });
  t.fill(range);
  return range;
}

/** Fails page `page` of the range by madvise: the result. */
function fail(t: Kit, range: Range, page: number): number {
  return t.madvise(part(range, page, 1), "HWPOISON");
}

test("ANON-280 ANON-281 only the page that failed is lost: the folio is split, the other 511 stay what they were", () => {
  const t = failing();
  const range = filled(t);
  const [pfns, contents] = [t.pfns(range), t.contents(range)];
  const changed = t.thpDeltas(() => expect(fail(t, range, 200)).toBe(0));
  expect(changed).toEqual({
    thp_split_page: 1,
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
    "2048kB/split": 1,
    "2048kB/nr_anon": -1,
  });
  pfns[200] = -1;
  contents[200] = -1;
  expect([t.pfns(range), t.contents(range)]).toEqual([pfns, contents]);
  expect([t.write(range, 199), t.write(range, 201)]).toEqual(["none", "none"]);
  expect(t.smaps(range).Rss).toBe(511 * 4);
});

test("ANON-282 who consumed it gets BUS_MCEERR_AR for the page's address, and so does every later touch", () => {
  const t = failing();
  const range = filled(t);
  fail(t, range, 200);
  const address = range.start + 200 * 4096;
  expect(t.m.poison.signals).toEqual([{ mmId: t.mm.id, code: 4, address, addrLsb: 12 }]);
  expect([t.read(range, 200), t.write(range, 200)]).toEqual(["SIGBUS 4 12", "SIGBUS 4 12"]);
  expect(t.madvise(part(range, 200, 1), "POPULATE_READ")).toBe(-EHWPOISON);
});

test("ANON-280 only those who map the bad page are told; whoever maps the others does not notice", () => {
  const t = failing();
  t.m.poison.killsEarly = true;
  const range = filled(t);
  const child = of(t.fork(), range);
  t.munmap(part(child, 200, 1));
  fail(t, range, 200);
  expect(t.m.poison.signals.map(({ mmId }) => mmId)).toEqual([t.mm.id]);
  fail(t, range, 201);
  expect(t.m.poison.signals.slice(1).map(({ mmId, code }) => [mmId, code])).toEqual([
    [t.mm.id, 4],
    [child.mm.id, 5],
  ]);
});

test("ANON-286 a failed 4K page in a range shared by fork strikes every process that maps it", () => {
  const t = failing();
  const range = t.map({ pages: 4 });
  t.fill(range);
  const child = of(t.fork(), range);
  fail(t, range, 1);
  expect([t.read(range, 1), t.read(child, 1)]).toEqual(["SIGBUS 4 12", "SIGBUS 4 12"]);
  expect([t.read(range, 2), t.read(child, 2)]).toEqual(["none", "none"]);
});

test("ANON-281 the entry is inherited, moved and dropped like any other", () => {
  const t = failing();
  const range = t.map({ pages: 8 });
  t.fill(range);
  fail(t, range, 1);
  const child = of(t.fork(), range);
  expect(t.read(child, 1)).toBe("SIGBUS 4 12");
  t.madvise(part(child, 1, 1), "DONTNEED");
  expect(t.write(child, 1)).toBe("anon 4k");
  const moved = t.mremap(range, 8, { at: range.start + 2 ** 32 });
  expect(t.read(moved, 1)).toBe("SIGBUS 4 12");
});

test("ANON-283 a pinned folio cannot be split: told by the size of the mapping, marked, EHWPOISON", () => {
  const t = failing();
  const range = filled(t);
  t.pin(part(range, 9, 1));
  const head = t.folio(range);
  expect(fail(t, range, 200)).toBe(-EHWPOISON);
  const address = range.start + 200 * 4096;
  expect(t.m.poison.signals).toEqual([{ mmId: t.mm.id, code: 4, address, addrLsb: 21 }]);
  expect(t.isHuge(range)).toBe(true);
  expect(t.m.frames.flags[head] & PG.HAS_HWPOISONED).not.toBe(0);
  expect(t.m.frames.flags[head + 200] & PG.HWPOISON).not.toBe(0);
  // Once it has failed, it is not failed again.
  t.m.poison.signals.length = 0;
  expect([fail(t, range, 200), t.m.poison.signals]).toEqual([-EHWPOISON, []]);
});

test("ANON-284 the feature must be there; lengths are not rounded; one page of each folio fails", () => {
  const without = machine({ enabled: "always" });
  const range = filled(without);
  for (const advice of ["HWPOISON", "SOFT_OFFLINE"] as const)
    expect(without.madvise(part(range, 0, 1), advice)).toBe(-EINVAL);

  const t = failing();
  const two = t.map({ huge: 2 });
  t.fill(two);
  const call = (start: number, length: number) =>
    sysMadvise(t.m, t.mm, start, length, MADV.HWPOISON);
  expect(call(two.start, 2 ** 22)).toBe(0);
  expect([t.m.poison.nrPages, t.read(two, 0), t.read(two, 512)]).toEqual([
    2,
    "SIGBUS 4 12",
    "SIGBUS 4 12",
  ]);
  expect([call(two.start + 100, 4096), call(two.start + 4096, 1)]).toEqual([-EINVAL, 0]);
  expect(t.m.poison.nrPages).toBe(3);
  // A page that is not there is faulted in: by reading, so that it is the zero page, which cannot fail.
  const fresh = t.map({ pages: 1 });
  expect([fail(t, fresh, 0), t.m.poison.nrPages]).toEqual([-EBUSY, 3]);
});

test("ANON-285 soft offline empties a page of a huge folio and takes it out of use without a signal", () => {
  const t = failing();
  const range = filled(t);
  const [pfns, contents] = [t.pfns(range), t.contents(range)];
  expect(t.madvise(part(range, 200, 1), "SOFT_OFFLINE")).toBe(0);
  const now = t.pfns(range);
  expect(now[200]).not.toBe(pfns[200]);
  expect([now.toSpliced(200, 1), t.contents(range)]).toEqual([pfns.toSpliced(200, 1), contents]);
  expect([t.m.poison.signals, t.write(range, 200)]).toEqual([[], "none"]);
  // Nobody gets the page again.
  t.exhaustAll();
  expect(t.m.frames.flags[pfns[200]]).toBe(PG.HWPOISON);
});

test("ANON-285 what cannot be split is busy; switched off it is not supported", () => {
  const t = failing();
  const range = filled(t);
  t.pin(part(range, 9, 1));
  expect(t.madvise(part(range, 200, 1), "SOFT_OFFLINE")).toBe(-EBUSY);
  t.m.poison.canSoftOffline = false;
  expect(t.madvise(part(range, 201, 1), "SOFT_OFFLINE")).toBe(-EOPNOTSUPP);
  expect([t.m.poison.nrPages, t.isHuge(range)]).toEqual([0, true]);
});

test("ANON-286 a failed page keeps its folio from being taken for underused, and is not replaced by the zero page", () => {
  const t = failing();
  const range = t.map({ huge: 1 });
  t.write(range, 0); // 511 pages of zeroes
  t.pin(part(range, 9, 1));
  const pfn = t.pfns(range)[9];
  fail(t, range, 200);
  t.unpin(pfn);
  expect([t.dropSlab(0), t.isHuge(range)]).toEqual([0, true]);
});

test("ANON-286 HardwareCorrupted counts 4 kB for each failed page, and has no line without the feature", () => {
  const t = failing();
  const range = filled(t);
  const line = (kit: Kit) => /HardwareCorrupted: +(\d+) kB/.exec(meminfoText(kit.m))?.[1];
  expect([line(t), line(machine())]).toEqual(["0", undefined]);
  fail(t, range, 3);
  t.madvise(part(range, 4, 1), "SOFT_OFFLINE");
  expect(line(t)).toBe("8");
});

test("ANON-286 a group gives back the charge of a page that failed", () => {
  const t = failing();
  const group = t.memcg(2000);
  const range = t.map({ pages: 4, mm: t.exec(group) });
  t.fill(range);
  const before = t.m.memcgs[group]!.usage;
  fail(t, range, 1);
  expect(t.m.memcgs[group]!.usage).toBe(before - 1);
});
