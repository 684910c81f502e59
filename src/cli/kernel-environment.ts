/**
 * The live kernel as far as recordings depend on it: version, configuration, knobs at the start of every scenario.
 *
 * Entry: environmentText.
 */

import { existsSync, readFileSync } from "node:fs";
import { arch, release } from "node:os";
import { gunzipSync } from "node:zlib";
import { KNOBS_AT_START } from "./kernel-knobs.ts";

const CONFIG =
  /^CONFIG_(TRANSPARENT_HUGEPAGE|THP|READ_ONLY_THP|MEMCG|ZRAM|ZSWAP|SWAP|KSM|USERFAULTFD|MEMORY_FAILURE|PAGE_MAPCOUNT|NO_PAGE_MAPCOUNT|NUMA|MEM_SOFT_DIRTY|PER_VMA_LOCK)\b.*=/;

/** A JSON document, the same for the same kernel and knobs. */
export function environmentText(): string {
  const environment = {
    schema: "hugelab.recordings",
    version: 1,
    // Without what a distributor adds.
    kernel: release().replace(/[^0-9.].*/, ""),
    architecture: arch(),
    configuration: configuration(),
    // What every scenario begins with; its header says more.
    knobs: Object.fromEntries(KNOBS_AT_START),
  };
  return `${JSON.stringify(environment, null, 2)}\n`;
}

function configuration(): readonly string[] {
  const path = "/proc/config.gz";
  if (!existsSync(path)) return [];
  const lines = gunzipSync(readFileSync(path)).toString("utf8").split("\n");
  return lines.filter((line) => CONFIG.test(line)).sort();
}
