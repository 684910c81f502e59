import { expect, test } from "vitest";
import { machine } from "../machine/test-kit.ts";

test("COLL-132 COLL-133 COLL-134 COLL-150 COLL-290 512 written pages become one huge page with the same contents", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  t.fill(range);
  const contents = t.contents(range);
  const frames = t.pfns(range);
  const changed = t.deltas(() => expect(t.madvise(range, "COLLAPSE")).toBe(0));
  expect(t.states(range)).toBe("huge*512");
  expect(t.contents(range)).toEqual(contents);
  expect(frames).not.toContain(t.folio(range));
  expect(t.entry(range)).toBe("WRITE YOUNG DIRTY HUGE");
  expect(t.flags(range)).toBe("ANON SWAPBACKED LRU UPTODATE ANON_EXCLUSIVE DEFERRED");
  expect(changed).toEqual({
    thp_collapse_alloc: 1,
    nr_anon_transparent_hugepages: 1,
    "2048kB/nr_anon": 1,
  });
});
