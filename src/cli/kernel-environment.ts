/**
 * The live kernel as far as recordings depend on it: version, configuration, knobs.
 *
 * Entry: environmentText.
 */

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { arch, release } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

const THP = "/sys/kernel/mm/transparent_hugepage";
const CONFIG =
  /^CONFIG_(TRANSPARENT_HUGEPAGE|THP|READ_ONLY_THP|MEMCG|ZRAM|ZSWAP|SWAP|KSM|USERFAULTFD|MEMORY_FAILURE|PAGE_MAPCOUNT|NO_PAGE_MAPCOUNT|NUMA|MEM_SOFT_DIRTY|PER_VMA_LOCK)\b.*=/;

/** A JSON document, the same for the same kernel and knobs. */
export function environmentText(): string {
  const environment = {
    schema: "hugelab.recordings",
    version: 1,
    kernel: release(),
    architecture: arch(),
    configuration: configuration(),
    knobsBefore: knobs(),
  };
  return `${JSON.stringify(environment, null, 2)}\n`;
}

function configuration(): readonly string[] {
  const path = "/proc/config.gz";
  if (!existsSync(path)) return [];
  const lines = gunzipSync(readFileSync(path)).toString("utf8").split("\n");
  return lines.filter((line) => CONFIG.test(line)).sort();
}

/** Values of the THP files that can be written, by path below the sysfs folder. */
function knobs(folder = ""): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(join(THP, folder)).sort()) {
    const path = join(folder, name);
    if (name === "stats") continue;
    if (statSync(join(THP, path)).isDirectory()) Object.assign(found, knobs(path));
    else if ((statSync(join(THP, path)).mode & 0o200) !== 0)
      found[path] = readFileSync(join(THP, path), "utf8").trim();
  }
  return found;
}
