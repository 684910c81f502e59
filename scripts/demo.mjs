#!/usr/bin/env node
/**
 * The main job on a bundled recording, from a fresh clone: `npm run demo`.
 *
 * Installs the packages if they are missing, builds, and compares a recording under the default settings. Further
 * arguments go to `hugelab compare`: npm run demo -- --format md
 */
import { join } from "node:path";
import { PROJECT, run, setUp } from "./setup.mjs";

const RECORDING = "recordings/redis.hlt";

function main(args) {
  setUp();
  const hugelab = join(PROJECT, "dist", "hugelab.mjs");
  const isGood =
    run("npm", ["run", "--silent", "build"]) &&
    run(process.execPath, [hugelab, "compare", RECORDING, ...args]);
  process.exitCode = isGood ? 0 : 1;
}

main(process.argv.slice(2));
