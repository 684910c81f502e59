import { expect, test } from "vitest";
import { EACCES, EINVAL, EISDIR, ENOENT, ERANGE } from "../base/errno.ts";
import { KNOBS, sysfsPath } from "../huge/knob-files.ts";
import { machine, part } from "../machine/test-kit.ts";
import { listSysfs, modeOfSysfs, readSysfs, sysfsFiles, THP_SYSFS, writeSysfs } from "./sysfs.ts";

/** A fresh machine with Linux's defaults, which less than 512 MiB would change; its sysfs by short path. */
function tree() {
  const t = machine({ memory: 512 });
  const at = (file: string) => `${THP_SYSFS}/${file}`;
  return {
    t,
    read: (file: string) => readSysfs(t.m, at(file)),
    write: (file: string, text: string) => writeSysfs(t.m, at(file), text),
    mode: (file: string) => modeOfSysfs(at(file)),
  };
}

/** Words are taken whole with at most one newline behind; a refused write changes nothing. */
function expectWords(file: string, words: string, accepted: string, byDefault: string): void {
  const { read, write, mode } = tree();
  const bracketed = (word: string) =>
    `${words
      .split(" ")
      .map((w) => (w === word ? `[${w}]` : w))
      .join(" ")}\n`;
  expect([mode(file), read(file)]).toEqual([0o644, bracketed(byDefault)]);
  for (const word of accepted.split(" ")) {
    expect([word, write(file, `${word}\n`), read(file)]).toEqual([
      word,
      word.length + 1,
      bracketed(word),
    ]);
    expect(write(file, word)).toBe(word.length);
  }
  const last = read(file);
  const wrong = [
    "1",
    "yes",
    "bogus",
    " always",
    "always ",
    "Always",
    "always\n\n",
    "always never",
    "\n",
  ];
  for (const text of wrong) expect([text, write(file, text)]).toEqual([text, -EINVAL]);
  expect([write(file, ""), read(file)]).toEqual([0, last]);
}

test("PROC-090 enabled", () => {
  expectWords("enabled", "always madvise never", "always madvise never", "madvise");
});

test("PROC-091 defrag", () => {
  const words = "always defer defer+madvise madvise never";
  expectWords("defrag", words, words, "madvise");
});

test("PROC-092 shmem_enabled", () => {
  const words = "always within_size advise never deny force";
  expectWords("shmem_enabled", words, words, "never");
});

test("PROC-093 use_zero_page takes 0 and 1 in decimal", () => {
  const { read, write, mode } = tree();
  expect([mode("use_zero_page"), read("use_zero_page")]).toEqual([0o644, "1\n"]);
  expect([write("use_zero_page", "0\n"), read("use_zero_page")]).toEqual([2, "0\n"]);
  for (const text of ["2", "-1", "0x1", "y"]) expect(write("use_zero_page", text)).toBe(-EINVAL);
  expect(write("use_zero_page", "18446744073709551616")).toBe(-ERANGE);
  expect(read("use_zero_page")).toBe("0\n");
});

test("PROC-094 shrink_underused reads 0 or 1 and goes by the first letter", () => {
  const { read, write, mode } = tree();
  expect([mode("shrink_underused"), read("shrink_underused")]).toEqual([0o644, "1\n"]);
  expect([write("shrink_underused", "no"), read("shrink_underused")]).toEqual([2, "0\n"]);
  expect([write("shrink_underused", "2"), read("shrink_underused")]).toEqual([-EINVAL, "0\n"]);
});

test("PROC-095 hpage_pmd_size is read only", () => {
  const { read, write, mode } = tree();
  expect([mode("hpage_pmd_size"), read("hpage_pmd_size")]).toEqual([0o444, "2097152\n"]);
  expect([write("hpage_pmd_size", "1"), write("hpage_pmd_size", "")]).toEqual([-EACCES, -EACCES]);
});

test("PROC-096 enabled of each size; none for 8 kB", () => {
  const words = "always inherit madvise never";
  for (const size of [16, 32, 64, 128, 256, 512, 1024, 2048])
    expectWords(`hugepages-${size}kB/enabled`, words, words, size === 2048 ? "inherit" : "never");
  expect(tree().read("hugepages-8kB/enabled")).toBe(-ENOENT);
});

test("PROC-097 shmem_enabled of each size refuses force and deny", () => {
  const words = "always inherit within_size advise never";
  for (const size of [8, 16, 32, 64, 128, 256, 512, 1024, 2048])
    expectWords(
      `hugepages-${size}kB/shmem_enabled`,
      words,
      words,
      size === 2048 ? "inherit" : "never",
    );
  const { write } = tree();
  for (const word of ["force", "deny"])
    expect(write("hugepages-2048kB/shmem_enabled", word)).toBe(-EINVAL);
});

/** A decimal knob of khugepaged: its default and the first and last value it takes. */
function expectNumber(name: string, byDefault: number, low: number, high: number): void {
  const { read, write, mode } = tree();
  const file = `khugepaged/${name}`;
  expect([mode(file), read(file)]).toEqual([0o644, `${byDefault}\n`]);
  for (const value of [low, high]) {
    const text = String(value);
    expect([write(file, text), read(file)]).toEqual([text.length, `${value}\n`]);
  }
  for (const value of [low - 1, high + 1])
    expect([value, write(file, String(value))]).toEqual([value, -EINVAL]);
  expect(read(file)).toBe(`${high}\n`);
}

test("PROC-098 COLL-001 khugepaged/defrag", () => expectNumber("defrag", 1, 0, 1));
test("PROC-099 COLL-002 khugepaged/max_ptes_none", () =>
  expectNumber("max_ptes_none", 511, 0, 511));
test("PROC-100 COLL-003 khugepaged/max_ptes_swap", () => expectNumber("max_ptes_swap", 64, 0, 511));
test("PROC-101 COLL-004 khugepaged/max_ptes_shared", () =>
  expectNumber("max_ptes_shared", 256, 0, 511));
test("PROC-102 COLL-005 khugepaged/pages_to_scan", () =>
  expectNumber("pages_to_scan", 4096, 1, 4294967295));
test("PROC-103 COLL-006 khugepaged/scan_sleep_millisecs", () =>
  expectNumber("scan_sleep_millisecs", 10000, 0, 4294967295));
test("PROC-104 COLL-007 khugepaged/alloc_sleep_millisecs", () =>
  expectNumber("alloc_sleep_millisecs", 60000, 0, 4294967295));

test("PROC-105 COLL-008 COLL-009 khugepaged's progress is read only", () => {
  for (const file of ["khugepaged/pages_collapsed", "khugepaged/full_scans"]) {
    const { read, write, mode } = tree();
    expect([mode(file), read(file), write(file, "0"), write(file, "")]).toEqual([
      ...[0o444, "0\n", -EACCES, -EACCES],
    ]);
  }
});

test("PROC-106 COLL-010 COLL-011 numbers are decimal, with at most a plus, zeros and one newline", () => {
  const { read, write } = tree();
  const file = "khugepaged/max_ptes_none";
  const wrong = ["0x10", " 7", "7 ", "-1", "1.5", "7\n\n", "", "y", "18446744073709551616"];
  expect(wrong.map((text) => write(file, text))).toEqual(
    wrong.map((text) => (text === "" ? 0 : -EINVAL)),
  );
  expect(read(file)).toBe("511\n");
  expect([write(file, "+007\n"), read(file)]).toEqual([5, "7\n"]);
});

test("COLL-012 COLL-013 khugepaged/defrag is 0 or 1; a number beyond 64 bits is ERANGE", () => {
  const { write } = tree();
  const answers = ["y", "yes", "2", "-1", "18446744073709551615", "18446744073709551616"];
  expect(answers.map((text) => write("khugepaged/defrag", text))).toEqual([
    ...[-EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -ERANGE],
  ]);
});

test("PROC-107 8 kB has shared memory's knob and eleven statistics", () => {
  expect(listSysfs(`${THP_SYSFS}/hugepages-8kB`)).toEqual(["shmem_enabled", "stats/"]);
  const stats = listSysfs(`${THP_SYSFS}/hugepages-8kB/stats`) as string[];
  expect(stats.join(" ")).toBe(
    "shmem_alloc shmem_fallback shmem_fallback_charge split split_failed swpin swpin_fallback swpin_fallback_charge swpout swpout_fallback zswpout",
  );
});

test("PROC-108 seventeen statistics of the other sizes, decimal, read only", () => {
  const { read, write, mode } = tree();
  const stats = listSysfs(`${THP_SYSFS}/hugepages-64kB/stats/`) as string[];
  expect(stats.join(" ")).toBe(
    "anon_fault_alloc anon_fault_fallback anon_fault_fallback_charge nr_anon nr_anon_partially_mapped shmem_alloc shmem_fallback shmem_fallback_charge split split_deferred split_failed swpin swpin_fallback swpin_fallback_charge swpout swpout_fallback zswpout",
  );
  for (const stat of stats) {
    const file = `hugepages-64kB/stats/${stat}`;
    expect([stat, mode(file), read(file), write(file, "0")]).toEqual([stat, 0o444, "0\n", -EACCES]);
  }
});

test("PROC-109 nr_anon counts folios however they are mapped, nr_anon_partially_mapped what is queued", () => {
  const { t, read } = tree();
  const stats = () =>
    ["nr_anon", "nr_anon_partially_mapped", "split_deferred", "anon_fault_alloc"].map((stat) =>
      Number(read(`hugepages-2048kB/stats/${stat}`)),
    );
  const range = t.mapHuge(2);
  expect(stats()).toEqual([2, 0, 0, 2]);
  t.madvise(part(range, 0, 1), "DONTNEED");
  expect(stats()).toEqual([2, 1, 1, 2]);
  t.madvise(range, "DONTNEED");
  expect(stats()).toEqual([0, 0, 1, 2]);
});

test("PROC-110 booleans are numeric and the old values 2 and 0 of enabled are refused", () => {
  const { read, write } = tree();
  expect([write("enabled", "0"), write("enabled", "2")]).toEqual([-EINVAL, -EINVAL]);
  for (const file of ["use_zero_page", "shrink_underused", "khugepaged/defrag"])
    expect(read(file)).toMatch(/^[01]\n$/);
});

test("directories are listed and are no files", () => {
  const { t, mode } = tree();
  expect(listSysfs(THP_SYSFS)).toEqual([
    ...["defrag", "enabled", "hpage_pmd_size"],
    ...[1024, 128, 16, 2048, 256, 32, 512, 64, 8].map((size) => `hugepages-${size}kB/`),
    ...["khugepaged/", "shmem_enabled", "shrink_underused", "use_zero_page"],
  ]);
  expect([mode("khugepaged"), mode("nothing"), mode("hugepages-4kB")]).toEqual([
    0o755,
    -ENOENT,
    -ENOENT,
  ]);
  expect(readSysfs(t.m, `${THP_SYSFS}/khugepaged`)).toBe(-EISDIR);
  expect(writeSysfs(t.m, `${THP_SYSFS}/khugepaged`, "1")).toBe(-EISDIR);
  expect(writeSysfs(t.m, `${THP_SYSFS}/nothing`, "1")).toBe(-ENOENT);
  expect(readSysfs(t.m, "/sys/kernel/mm/enabled")).toBe(-ENOENT);
});

test("every knob that the command line knows is a file here that reads its default", () => {
  const { t } = tree();
  for (const knob of KNOBS) {
    const text = String(readSysfs(t.m, sysfsPath(knob)));
    const value = /\[(.*)\]/.exec(text)?.[1] ?? text.trim();
    expect([knob.name, value]).toEqual([knob.name, knob.byDefault]);
  }
  const writable = sysfsFiles().filter((path) => modeOfSysfs(path) === 0o644);
  expect(new Set(writable)).toEqual(new Set(KNOBS.map(sysfsPath)));
});
