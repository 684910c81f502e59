import { expect, test } from "vitest";
import { ENOENT } from "../base/errno.ts";
import { machine } from "../machine/test-kit.ts";
import { readNodeFile } from "./node-files.ts";

test("PROC-064 a node's meminfo: `Node N `, then lines as meminfo has them, in the node's order", () => {
  const t = machine({ enabled: "always" });
  t.write(t.map({ huge: 1 }));
  const lines = String(readNodeFile(t.m, 0, "meminfo"))
    .split("\n")
    .slice(0, -1);
  expect(lines.map((line) => /^Node 0 (.*?):/.exec(line)?.[1]).join(" ")).toBe(
    "MemTotal MemFree MemUsed SwapCached Active Inactive Active(anon) Inactive(anon) Active(file) Inactive(file) Unevictable Mlocked Dirty Writeback FilePages Mapped AnonPages Shmem KernelStack PageTables SecPageTables NFS_Unstable Bounce WritebackTmp KReclaimable Slab SReclaimable SUnreclaim AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped HugePages_Total HugePages_Free HugePages_Surp",
  );
  expect(lines).toContain("Node 0 AnonHugePages:      2048 kB");
  expect(lines).toContain("Node 0 Inactive(anon):     2048 kB");
  expect(lines[0]).toBe(`Node 0 MemTotal:       ${String(64 * 1024 - 4).padStart(8)} kB`);
  expect(lines.at(-1)).toBe("Node 0 HugePages_Surp:      0");
});

test("PROC-064 each node has its own sizes; counts not kept by node have no line", () => {
  const t = machine({ memory: 512, nrNodes: 2 });
  const text = (node: number) => String(readNodeFile(t.m, node, "meminfo"));
  const totals = [0, 1].map((node) => Number(/MemTotal: +(\d+)/.exec(text(node))?.[1]));
  expect(totals[0] + totals[1]).toBe(512 * 1024 - 4);
  expect(text(1)).toContain("Node 1 Unevictable:");
  expect(text(1)).not.toContain("AnonPages");
});

test("PROC-064 numastat and distance", () => {
  const t = machine({ memory: 512, nrNodes: 2 });
  const numastat = String(readNodeFile(t.m, 0, "numastat"));
  expect(numastat.replace(/ \d+\n/g, " ").trim()).toBe(
    "numa_hit numa_miss numa_foreign interleave_hit local_node other_node",
  );
  expect(readNodeFile(t.m, 1, "distance")).toBe("20 10\n");
  expect([readNodeFile(t.m, 2, "meminfo"), readNodeFile(t.m, 0, "x")]).toEqual([-ENOENT, -ENOENT]);
});
