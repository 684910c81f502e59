import { expect, test } from "vitest";
import { EACCES, EINVAL, ENOENT } from "../base/errno.ts";
import { digestOf } from "../machine/digest.ts";
import { createMachine } from "../machine/machine.ts";
import { machine, of, part } from "../machine/test-kit.ts";
import {
  listSysfs,
  modeOfSysfs,
  readSysfs,
  sysfsFiles,
  THP_SYSFS,
  writeSysfs,
} from "../report/sysfs.ts";
import { vmstatText } from "../report/vmstat.ts";

const FOLDER = `${THP_SYSFS}/khugepaged`;

function present() {
  return createMachine({ memoryBytes: 16 * 2 ** 20, sharedCollapse: "present" });
}

test("COLL-400 the four knobs: defaults, ranges, decimal text with at most one newline", () => {
  const m = present();
  const at = (file: string) => `${FOLDER}/${file}`;
  for (const [file, byDefault, accepted, refused] of [
    ["shared_collapse", "0", ["1", "+0", "01"], ["2", "-1", "y", "yes", "on"]],
    ["shared_collapse_max_ptes", "8192", ["1", "1048576"], ["0", "1048577", "0x10", "1.5"]],
    ["shared_collapse_max_sharers", "64", ["1", "65535"], ["0", "65536", " 1"]],
    ["shared_collapse_batch_ms", "0", ["0", "10000"], ["10001", "1 ", "7\n\n"]],
  ] as const) {
    expect([readSysfs(m, at(file)), modeOfSysfs(at(file), m)]).toEqual([`${byDefault}\n`, 0o644]);
    for (const text of accepted) {
      expect([file, text, writeSysfs(m, at(file), `${text}\n`)]).toEqual([
        file,
        text,
        text.length + 1,
      ]);
      expect(readSysfs(m, at(file))).toBe(`${Number(text)}\n`);
    }
    const last = readSysfs(m, at(file));
    for (const text of [...refused, "18446744073709551616"])
      expect([file, text, writeSysfs(m, at(file), text)]).toEqual([file, text, -EINVAL]);
    expect([writeSysfs(m, at(file), ""), readSysfs(m, at(file))]).toEqual([0, last]);
  }
});

test("COLL-401 the statistics are files that only root reads as zero at first, and nobody writes", () => {
  const m = present();
  const names = (listSysfs(FOLDER, m) as string[]).filter((name) => name.startsWith("shared_"));
  const stats = names.filter((name) => modeOfSysfs(`${FOLDER}/${name}`, m) === 0o444);
  expect(stats).toEqual(
    `shared_abort_alloc shared_abort_budget shared_abort_charge shared_abort_compound shared_abort_copy_mc
     shared_abort_lock shared_abort_lru shared_abort_memcg shared_abort_pinned shared_abort_root shared_abort_stall
     shared_abort_swap_shared shared_abort_uffd shared_abort_vma shared_collapsed shared_deferred_vmas
     shared_lru_saved shared_pmds shared_ptes_max shared_ptes_updated shared_stall_ns_max shared_stall_ns_total`.split(
      /\s+/,
    ),
  );
  for (const name of stats) {
    expect(readSysfs(m, `${FOLDER}/${name}`)).toBe("0\n");
    expect(writeSysfs(m, `${FOLDER}/${name}`, "1")).toBe(-EACCES);
  }
  expect(vmstatText(m)).toMatch(
    /\nthp_shared_collapse_alloc 0\nthp_shared_collapse_alloc_failed 0\n$/,
  );
});

test("COLL-400 a machine without the mode has no file of it", () => {
  const m = createMachine({ memoryBytes: 16 * 2 ** 20 });
  const file = `${FOLDER}/shared_collapse`;
  expect(sysfsFiles(m)).toEqual(sysfsFiles());
  expect([readSysfs(m, file), writeSysfs(m, file, "1"), modeOfSysfs(file, m)]).toEqual([
    -ENOENT,
    -ENOENT,
    -ENOENT,
  ]);
  expect(vmstatText(m)).not.toContain("shared_collapse");
});

test("COLL-400 with 0 in the knob a machine that has the mode is, bit for bit, one that has not", () => {
  const digests = (["on", undefined] as const).map((sharedCollapse) => {
    const t = machine({ memory: 32, enabled: "never", ...(sharedCollapse && { sharedCollapse }) });
    if (sharedCollapse === "on") t.knob("khugepaged.shared_collapse", "0");
    const range = t.map({ huge: 2 });
    t.fill(range);
    const child = of(t.fork(), range);
    t.write(child, 3);
    t.knob("thp.enabled", "always");
    t.madvise(range, "HUGEPAGE");
    t.knob("khugepaged.max_ptes_shared", "511");
    for (let pass = 0; pass < 3; pass++) t.khugepaged();
    t.madvise(part(child, 0, 512), "COLLAPSE");
    return digestOf({ ...t.m, sharedCollapse: null });
  });
  expect(digests[0]).toBe(digests[1]);
});
