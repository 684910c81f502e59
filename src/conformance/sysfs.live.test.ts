import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeSync,
} from "node:fs";
import { describe, expect, test } from "vitest";
import { createMachine } from "../machine/machine.ts";
import { readNodeFile } from "../report/node-files.ts";
import { modeOfProc, readProcGlobal } from "../report/proc.ts";
import {
  listSysfs,
  modeOfSysfs,
  readSysfs,
  sysfsFiles,
  THP_SYSFS,
  writeSysfs,
} from "../report/sysfs.ts";
import { withLiveKnobs } from "./knob-lock.ts";
import { LiveActor, reasonAgainstLive } from "./live-actor.ts";
import { ModelActor } from "./model-actor.ts";
import { shapeOf } from "./proc-lines.ts";

const reason = reasonAgainstLive();

/** Texts tried on every writable file: what some accept, and everything that nearly is. */
const TEXTS = [
  ..."always madvise never inherit defer defer+madvise within_size advise deny force".split(" "),
  ..."0 1 2 +1 01 007 64 511 512 4096 4294967295 4294967296 18446744073709551615".split(" "),
  ..."18446744073709551616 -1 0x1 1.5 y n on off yes Always alwaysx".split(" "),
  ...["", "\n", " 1", "1 ", "1\n", "1\n\n", "always\n", "always\n\n", " always", "always madvise"],
];

/** Bytes taken or minus the errno, as write(2) on the running kernel says. */
function writeLive(path: string, text: string): number {
  try {
    const file = openSync(path, constants.O_WRONLY);
    try {
      return writeSync(file, text);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? 0;
  }
}

/** What each text gives and what is read afterwards, from the file's first value on. */
function answers(
  path: string,
  first: string,
  write: (text: string) => number,
  read: () => string | number,
): readonly unknown[] {
  write(first);
  return TEXTS.map((text) => [path, text, write(text), read()]);
}

function valueIn(text: string): string {
  return /\[(.*)\]/.exec(text)?.[1] ?? text.trim();
}

function writableFiles(): string[] {
  return sysfsFiles().filter((path) => modeOfSysfs(path) === 0o644);
}

function lineLengths(text: string): number[] {
  return text.split("\n").map((line) => line.length);
}

describe.skipIf(reason !== null)(
  "the sysfs tree and the global files as the running kernel has them",
  () => {
    test("PROC-096 PROC-097 PROC-105 PROC-107 PROC-108 the same files with the same modes", () => {
      const live = readdirSync(THP_SYSFS, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => `${entry.parentPath}/${entry.name}`);
      const modes = (paths: string[], modeOf: (path: string) => number) =>
        Object.fromEntries(paths.map((path) => [path, modeOf(path).toString(8)]));
      expect(modes(sysfsFiles(), modeOfSysfs)).toEqual(
        modes(live.sort(), (path) => statSync(path).mode & 0o777),
      );
      expect(listSysfs(`${THP_SYSFS}/khugepaged`)).toEqual(
        readdirSync(`${THP_SYSFS}/khugepaged`).sort(),
      );
    });

    test("PROC-090 PROC-091 PROC-092 PROC-093 PROC-094 PROC-098 PROC-099 PROC-100 PROC-101 PROC-102 PROC-103 PROC-104 PROC-106 every text is taken or refused, and read back, alike", async () => {
      const m = createMachine({ memoryBytes: 2 ** 29 });
      const files = writableFiles();
      const before = Object.fromEntries(files.map((f) => [f, valueIn(readFileSync(f, "latin1"))]));
      await withLiveKnobs(before, () => {
        for (const path of files) {
          const onModel = answers(
            path,
            before[path],
            (text) => writeSysfs(m, path, text),
            () => readSysfs(m, path),
          );
          // Somebody else may write knobs meanwhile: only what differs three times differs.
          let onLive = onModel;
          for (let attempt = 0; attempt < 3; attempt++) {
            onLive = answers(
              path,
              before[path],
              (text) => writeLive(path, text),
              () => readFileSync(path, "latin1"),
            );
            if (JSON.stringify(onLive) === JSON.stringify(onModel)) break;
          }
          expect(onModel).toEqual(onLive);
          writeLive(path, before[path]);
        }
      });
      for (const path of files) expect(valueIn(readFileSync(path, "latin1"))).toBe(before[path]);
    });

    test("PROC-095 PROC-105 files of mode 0444 cannot be opened for writing, not even by root", () => {
      const m = createMachine({ memoryBytes: 2 ** 29 });
      for (const path of sysfsFiles().filter((file) => modeOfSysfs(file) === 0o444))
        expect([path, writeSysfs(m, path, "0")]).toEqual([path, writeLive(path, "0")]);
      expect(readSysfs(m, `${THP_SYSFS}/hpage_pmd_size`)).toBe(
        readFileSync(`${THP_SYSFS}/hpage_pmd_size`, "latin1"),
      );
    });

    test("PROC-040 PROC-050 PROC-081 the files of /proc have the same modes", () => {
      const ofProcess = [
        "maps",
        "smaps",
        "smaps_rollup",
        "status",
        "statm",
        "numa_maps",
        "pagemap",
        "clear_refs",
      ];
      const ofMachine = [
        "kpageflags",
        "kpagecount",
        "kpagecgroup",
        "meminfo",
        "vmstat",
        "zoneinfo",
        "buddyinfo",
        "pagetypeinfo",
      ];
      for (const path of [...ofProcess.map((name) => `self/${name}`), ...ofMachine]) {
        const name = path.replace("self/", "");
        expect([name, modeOfProc(name)]).toEqual([name, statSync(`/proc/${path}`).mode & 0o777]);
      }
    });

    test("PROC-060 meminfo has the same lines in the same columns", () => {
      const live = readFileSync("/proc/meminfo", "latin1");
      const model = String(readProcGlobal(createMachine(), "meminfo"));
      expect(shapeOf(model)).toBe(shapeOf(live));
      expect(lineLengths(model)).toEqual(lineLengths(live));
    });

    test("PROC-064 a node's meminfo and numastat have the same lines in the same columns", () => {
      for (const name of ["meminfo", "numastat"]) {
        const live = readFileSync(`/sys/devices/system/node/node0/${name}`, "latin1");
        const model = String(readNodeFile(createMachine(), 0, name));
        expect(shapeOf(model)).toBe(shapeOf(live));
        if (name === "meminfo") expect(lineLengths(model)).toEqual(lineLengths(live));
      }
    });

    test("PROC-083 swaps has the same header", () => {
      const header = (text: string) => text.slice(0, text.indexOf("\n") + 1);
      expect(header(String(readProcGlobal(createMachine(), "swaps")))).toBe(
        header(readFileSync("/proc/swaps", "latin1")),
      );
    });

    test("PROC-070 PROC-071 PROC-072 vmstat has the same names in the same order", () => {
      const live = readFileSync("/proc/vmstat", "latin1");
      const names = (text: string) => text.replace(/ \d+$/gm, "");
      expect(names(String(readProcGlobal(createMachine(), "vmstat")))).toBe(names(live));
    });

    test("PROC-080 PROC-081 buddyinfo and pagetypeinfo have the same lines and columns", () => {
      const m = createMachine();
      for (const name of ["buddyinfo", "pagetypeinfo"]) {
        const live = readFileSync(`/proc/${name}`, "latin1");
        expect(shapeOf(String(readProcGlobal(m, name)))).toBe(shapeOf(live));
        expect(lineLengths(String(readProcGlobal(m, name)))).toEqual(lineLengths(live));
      }
    });

    test("PROC-082 every line of zoneinfo is one of the kernel's, in its order", () => {
      const shapes = (text: string) => text.split("\n").map(shapeOf);
      const live = shapes(readFileSync("/proc/zoneinfo", "latin1"));
      let at = 0;
      for (const line of shapes(String(readProcGlobal(createMachine(), "zoneinfo")))) {
        const found = live.indexOf(line, at);
        expect([line, found >= at]).toEqual([line, true]);
        at = found + 1;
      }
    });

    test("PROC-025 PROC-030 PROC-032 smaps_rollup, status and statm have the same lines and columns", async () => {
      const actor = new LiveActor();
      try {
        await actor.settle();
        const [live, model] = [actor.view(0), new ModelActor().view(0)];
        for (const name of ["smaps_rollup", "statm"])
          expect(shapeOf(model.read(name))).toBe(shapeOf(live.read(name)));
        const lines = live.read("status").split("\n");
        const from = lines.findIndex((line) => line.startsWith("VmPeak"));
        const to = lines.findIndex((line) => line.startsWith("untag_mask"));
        const part = `${lines.slice(from, to + 1).join("\n")}\n`;
        expect(shapeOf(model.read("status"))).toBe(shapeOf(part));
        expect(lineLengths(model.read("status"))).toEqual(lineLengths(part));
        expect(lineLengths(model.read("smaps_rollup"))).toEqual(
          lineLengths(live.read("smaps_rollup")),
        );
      } finally {
        actor.stop();
      }
    });
  },
);
