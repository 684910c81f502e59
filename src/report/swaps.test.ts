import { expect, test } from "vitest";
import { machine } from "../machine/test-kit.ts";
import { readProcGlobal } from "./proc.ts";

const HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

test("PROC-083 swaps: a header, and per device path, type, size without header page, used, priority", () => {
  const t = machine();
  expect(readProcGlobal(t.m, "swaps")).toBe(HEADER);
  t.swapon({ pages: 2 ** 14 }); // 64 MiB
  t.swapon({ pages: 2 ** 14 });
  t.swapon({ pages: 1024, priority: 5 });
  const range = t.map({ pages: 3 });
  t.fill(range);
  t.madvise(range, "PAGEOUT");
  const path = (n: number) => `/dev/zram${n}`.padEnd(40);
  expect(readProcGlobal(t.m, "swaps")).toBe(
    `${HEADER}${path(0)}partition\t65532\t\t0\t\t-2\n${path(1)}partition\t65532\t\t0\t\t-3\n${path(2)}partition\t4092\t\t12\t\t5\n`,
  );
});

test("PROC-060 PROC-083 meminfo's SwapTotal and SwapFree are the devices' sums", () => {
  const t = machine();
  t.swapon({ pages: 1024 });
  const range = t.map({ pages: 5 });
  t.fill(range);
  t.madvise(range, "PAGEOUT");
  const text = String(readProcGlobal(t.m, "meminfo"));
  expect(text).toContain("SwapTotal:          4092 kB\nSwapFree:           4072 kB\n");
});

test("PROC-062 the swap cache is among nr_file_pages and not in Cached", () => {
  const t = machine();
  t.swapon({ pages: 1024 });
  const range = t.map({ pages: 5 });
  t.fill(range);
  t.madvise(range, "PAGEOUT");
  t.fork();
  t.read(range, 2); // swapped in by a read while another process needs the slot: stays in the cache
  const vmstat = String(readProcGlobal(t.m, "vmstat"));
  expect(vmstat).toContain("\nnr_swapcached 1\n");
  expect(vmstat).toContain("\nnr_file_pages 1\n");
  const meminfo = String(readProcGlobal(t.m, "meminfo"));
  expect(meminfo).toContain("Cached:                0 kB\nSwapCached:            4 kB\n");
});
