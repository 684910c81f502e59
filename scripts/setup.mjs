/**
 * What a command of the README needs before anything is installed: Node's own modules only.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

/** The project's folder. */
export const PROJECT = resolve(import.meta.dirname, "..");

/** Oldest Node that works. */
const NODE_MAJOR = 20;

/** Runs a program in the project with its output shown and no input; true if it ended well. */
export function run(program, args) {
  const options = { cwd: PROJECT, stdio: ["ignore", "inherit", "inherit"] };
  const { status, error } = spawnSync(program, args, options);
  if (error !== undefined) process.stderr.write(`${program}: ${error.message}\n`);
  return status === 0;
}

/** Ends the process with status 3 unless this Node is new enough and the packages are, or can be, installed. */
export function setUp() {
  if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR) {
    stop(`Node ${NODE_MAJOR} or later is needed; this is ${process.versions.node}`);
  }
  if (existsSync(join(PROJECT, "node_modules", ".bin", "tsc"))) return;
  process.stderr.write("Installing the packages of package-lock.json (npm ci --ignore-scripts)\n");
  if (!run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"])) stop("npm ci failed");
}

function stop(message) {
  process.stderr.write(`${message}\n`);
  process.exit(3);
}
