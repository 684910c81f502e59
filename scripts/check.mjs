#!/usr/bin/env node
/**
 * What to run before every commit: `npm run check`. Types, tidy and lint beside the unit tests, two at a time, so that it
 * takes less than a minute on two cores. A step's output is shown when it ends; exit status 0 only if all ended well.
 */
import { spawn } from "node:child_process";
import { PROJECT, setUp } from "./setup.mjs";

/** Scripts of package.json; one lane runs in order, beside the other. */
const LANES = [["tidy", "types", "lint"], ["unit"]];

/** Runs a script of package.json with its output kept; true if it ended well. */
function step(script) {
  const startMs = performance.now();
  const child = spawn("npm", ["run", "--silent", script], {
    cwd: PROJECT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = [];
  child.stdout.on("data", (chunk) => output.push(chunk));
  child.stderr.on("data", (chunk) => output.push(chunk));
  return new Promise((resolve) => {
    child.on("error", () => resolve(false));
    child.on("close", (status) => {
      const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
      process.stdout.write(Buffer.concat(output));
      process.stdout.write(`== ${script}: ${status === 0 ? "ok" : "FAILED"} (${seconds} s)\n`);
      resolve(status === 0);
    });
  });
}

async function runLane(scripts) {
  let isGood = true;
  for (const script of scripts) isGood = (await step(script)) && isGood;
  return isGood;
}

setUp();
const results = await Promise.all(LANES.map(runLane));
process.exitCode = results.every(Boolean) ? 0 : 1;
