#!/usr/bin/env node
/**
 * Remakes the picture of the README, docs/images/report.png: the HTML report of a bundled recording, seen by a browser.
 *
 * Needs a build and Chromium (Debian: chromium). Usage: node scripts/report-picture.mjs [RECORDING]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PROJECT, run } from "./setup.mjs";

/** As wide as the report, and as high as its parts above the table. */
const WINDOW = "1200,1745";

function main(recording) {
  const scratch = mkdtempSync(join(tmpdir(), "hugelab-picture-"));
  const report = join(scratch, "report.html");
  const hugelab = join(PROJECT, "dist", "hugelab.mjs");
  try {
    const isGood =
      run(process.execPath, [hugelab, "compare", recording, "--quiet", "--html", report]) &&
      run("chromium", [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        `--user-data-dir=${join(scratch, "profile")}`,
        `--window-size=${WINDOW}`,
        "--virtual-time-budget=4000",
        `--screenshot=${join(PROJECT, "docs", "images", "report.png")}`,
        `file://${report}`,
      ]);
    process.exitCode = isGood ? 0 : 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

main(process.argv[2] ?? "recordings/redis.hlt");
