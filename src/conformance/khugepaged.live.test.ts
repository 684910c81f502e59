/** When the running kernel has a khugepaged thread, against when the model has one. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { createMachine } from "../machine/machine.ts";
import { NO_TASK } from "../mm/khugepaged-list.ts";
import { THP_SYSFS, writeSysfs } from "../report/sysfs.ts";
import { withLiveKnobs } from "./knob-lock.ts";
import { reasonAgainstLive } from "./live-actor.ts";

const reason = reasonAgainstLive();

const FILES = {
  enabled: `${THP_SYSFS}/enabled`,
  size: `${THP_SYSFS}/hugepages-2048kB/enabled`,
  other: `${THP_SYSFS}/hugepages-64kB/enabled`,
  shmem: `${THP_SYSFS}/shmem_enabled`,
  shmemSize: `${THP_SYSFS}/hugepages-2048kB/shmem_enabled`,
};
type Writes = readonly (readonly [keyof typeof FILES, string])[];

/** From here every list of writes begins: nothing keeps the daemon. */
const NOTHING: Writes = [
  ["size", "inherit"],
  ["other", "never"],
  ["shmem", "never"],
  ["shmemSize", "inherit"],
  ["enabled", "never"],
];

const LISTS: readonly Writes[] = [
  [["enabled", "always"]],
  [["enabled", "madvise"]],
  [
    ["enabled", "madvise"],
    ["enabled", "never"],
  ],
  [["size", "always"]],
  [["size", "madvise"]],
  [
    ["size", "never"],
    ["enabled", "always"],
  ],
  [["other", "always"]],
  [["shmem", "always"]],
  [["shmem", "within_size"]],
  [["shmem", "advise"]],
  [["shmem", "force"]],
  [["shmem", "deny"]],
  [
    ["shmemSize", "never"],
    ["shmem", "always"],
  ],
  [["shmemSize", "always"]],
  [["shmemSize", "within_size"]],
  [["shmemSize", "advise"]],
  [
    ["enabled", "always"],
    ["size", "never"],
    ["shmemSize", "advise"],
    ["shmemSize", "never"],
  ],
];

function threadsLive(): number {
  const names = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, "latin1");
      } catch {
        return ""; // gone meanwhile
      }
    });
  return names.filter((name) => name === "khugepaged\n").length;
}

/** Whether there is a thread after each write. */
function seen(writes: Writes, write: (path: string, text: string) => void, count: () => number) {
  return writes.map(([file, value]) => {
    write(FILES[file], value);
    return `${file}=${value}: ${count()}`;
  });
}

describe.skipIf(reason !== null)("the thread of the running kernel", () => {
  test("COLL-020 COLL-021 COLL-022 COLL-023 it is there after each write that the model has it after", async () => {
    const m = createMachine({ memoryBytes: 2 ** 29 });
    const before = Object.fromEntries(
      Object.values(FILES).map((path) => {
        const text = readFileSync(path, "latin1");
        return [path, /\[(.*)\]/.exec(text)?.[1] ?? text.trim()];
      }),
    );
    await withLiveKnobs(before, () => {
      for (const writes of LISTS) {
        const all = [...NOTHING, ...writes];
        const live = seen(all, writeFileSync, threadsLive);
        const model = seen(
          all,
          (path, text) => writeSysfs(m, path, text),
          () => (m.khugepaged.task === NO_TASK ? 0 : 1),
        );
        expect(model).toEqual(live);
      }
    });
  });
});
