import { expect, test } from "vitest";
import { PAGE_SIZE, TASK_SIZE } from "../base/address.ts";
import { EFAULT, EINVAL, EPERM } from "../base/errno.ts";
import { machine, part } from "../machine/test-kit.ts";
import { PAGE_IS, type ScanRequest, scanPagemap } from "./pagemap-scan.ts";

/** Every kind of page, at the same places as in the program that showed PROC-045 on the running kernel. */
function scene() {
  const t = machine({ memory: 64 });
  const at = 2 ** 44;
  const all = t.map({ at, pages: 4096 });
  t.madvise(part(all, 0, 512 * 6), "HUGEPAGE");
  t.madvise(part(all, 512 * 6, 1024), "NOHUGEPAGE");
  t.write(all, 0);
  t.write(all, 512);
  t.read(all, 1024);
  t.write(all, 512 * 3);
  t.madvise(part(all, 512 * 3 + 5, 1), "DONTNEED");
  t.write(all, 512 * 6);
  t.read(all, 512 * 6 + 1);
  t.write(all, 512 * 6 + 10);
  t.madvise(part(all, 512 * 6 + 20, 1), "GUARD_INSTALL");
  const shared = t.map({ at: at + 8192 * PAGE_SIZE, pages: 8, shared: true });
  t.write(shared, 0);
  t.read(shared, 1);
  const defaults = { start: at, end: at + 9000 * PAGE_SIZE, vecLen: 64, returned: 511 };
  const page = (addr: number) => (addr - at) / PAGE_SIZE;
  return {
    /** "first-end categories" in pages, then where the walk ended. */
    scan(request: Partial<ScanRequest>) {
      const result = scanPagemap(t.m, t.mm, { ...defaults, ...request });
      if (typeof result === "number") return result;
      const runs = result.regions.map(
        (run) => `${page(run.start)}-${page(run.end)} ${run.categories.toString(16)}`,
      );
      return [...runs, page(result.walkEnd)];
    },
    at,
  };
}

test("PROC-045 categories of every kind of page, merged into runs", () => {
  expect(scene().scan({})).toEqual([
    ...["0-1024 4a", "1024-1536 6a", "1536-1541 a", "1541-1542 2", "1542-2048 a", "2048-3072 0"],
    ...["3072-3073 a", "3073-3074 2a", "3074-3082 2", "3082-3083 a", "3083-3092 2"],
    ...["3092-3093 112", "3093-3584 2", "3584-4096 0", "8192-8194 e", "8194-8200 2", 9000],
  ]);
});

test("PROC-045 masks: all of, any of, turned around; runs are merged by what is returned", () => {
  const { scan } = scene();
  expect(scan({ mask: PAGE_IS.HUGE })).toEqual(["0-1024 4a", "1024-1536 6a", 9000]);
  const small = { inverted: PAGE_IS.HUGE, mask: PAGE_IS.HUGE | PAGE_IS.PRESENT };
  expect(scan(small)).toEqual([
    ...["1536-1541 a", "1542-2048 a", "3072-3073 a", "3073-3074 2a", "3082-3083 a", "8192-8194 e"],
    9000,
  ]);
  expect(scan({ anyOf: PAGE_IS.PFNZERO | PAGE_IS.FILE })).toEqual([
    ...["1024-1536 6a", "3073-3074 2a", "8192-8194 e", 9000],
  ]);
  expect(scan({ mask: PAGE_IS.PRESENT, returned: PAGE_IS.PRESENT })).toEqual([
    ...["0-1541 8", "1542-2048 8", "3072-3074 8", "3082-3083 8", "8192-8194 8", 9000],
  ]);
  expect(scan({ returned: 0 })).toEqual(["0-4096 0", "8192-8200 0", 9000]);
});

test("PROC-045 a limit of pages or records ends the walk, and walk_end says where", () => {
  const { scan, at } = scene();
  const present = { mask: PAGE_IS.PRESENT };
  expect(scan({ ...present, maxPages: 700 })).toEqual(["0-700 4a", 700]);
  expect(scan({ ...present, vecLen: 1 })).toEqual(["0-1024 4a", 1024]);
  expect(scan({ ...present, vecLen: 2 })).toEqual(["0-1024 4a", "1024-1536 6a", 1536]);
  expect(scan({ ...present, vecLen: 0, maxPages: 3 })).toEqual([9000]);
  const inside = { start: at + 5 * PAGE_SIZE, end: at + 10 * PAGE_SIZE };
  expect(scan({ ...present, ...inside })).toEqual(["5-10 4a", 10]);
  expect(scan({ ...present, end: at + PAGE_SIZE + 5 })).toEqual(["0-2 4a", 2]);
  expect(scan({ end: at })).toEqual([0]);
});

test("PROC-045 what is refused", () => {
  const { scan, at } = scene();
  expect(scan({ start: at + 5 })).toBe(-EINVAL);
  expect(scan({ flags: 4 })).toBe(-EINVAL);
  for (const mask of [512, 4096]) {
    expect([scan({ mask }), scan({ inverted: mask }), scan({ returned: mask })]).toEqual([
      ...[-EINVAL, -EINVAL, -EINVAL],
    ]);
  }
  expect(scan({ start: at + PAGE_SIZE, end: at })).toBe(-EFAULT);
  expect(scan({ end: TASK_SIZE + PAGE_SIZE })).toBe(-EFAULT);
  expect(scan({ end: TASK_SIZE, mask: PAGE_IS.HUGE })).toHaveLength(3);
  expect(scan({ flags: 1, mask: PAGE_IS.PRESENT })).toEqual([9000]);
  expect(scan({ flags: 2 })).toBe(-EPERM);
});
