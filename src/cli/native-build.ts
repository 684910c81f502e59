/**
 * Builds the C sources of native/ where and when they are needed.
 *
 * Entry: nativeProgram, nativePlugin.
 * Owns:  the cache folder ($XDG_CACHE_HOME/hugelab, else ~/.cache/hugelab). A built file's name carries a hash of everything it is
 *        made from, so an entry is never stale; it appears by rename, so it is never half-written, also when two
 *        commands build at once.
 * Errors: NotPossibleHere without a compiler or a writable cache; a source that does not compile is our defect.
 */

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { AssertionFailure } from "../base/assert.ts";
import { NotPossibleHere } from "./not-possible.ts";

const COMPILERS = ["cc", "gcc", "clang"];
const COMMON_FLAGS = ["-O2", "-std=gnu11", "-Wall", "-pthread"];

/** Path of the executable built from `source`, e.g. "calibrate/calibrate.c" (relative to native/), with `flags` besides ours. */
export function nativeProgram(source: string, flags: readonly string[] = []): string {
  return built(source, "", [...COMMON_FLAGS, ...flags]);
}

/** Path of the shared object built from `source` (relative to native/). */
export function nativePlugin(source: string): string {
  return built(source, ".so", [...COMMON_FLAGS, "-shared", "-fPIC"]);
}

/** Where what was built or measured on this host is kept. Not created by the call. */
export function cacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return join(base, "hugelab");
}

/** Absolute path of the package's file or folder, both from the sources and from dist/. */
export function packagePath(...parts: string[]): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) {
    const parent = dirname(folder);
    if (parent === folder) throw new AssertionFailure("no package.json above this file");
    folder = parent;
  }
  return join(folder, ...parts);
}

function built(source: string, suffix: string, flags: readonly string[]): string {
  const sourcePath = packagePath("native", source);
  const key = contentKey(sourcePath, flags);
  const target = join(cacheFolder(), `${basename(source, ".c")}-${key}${suffix}`);
  if (!existsSync(target)) compile(sourcePath, target, flags);
  return target;
}

/** Hash of the flags, of the source and of every file it includes by quoted name. */
function contentKey(sourcePath: string, flags: readonly string[]): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([process.arch, flags]));
  const paths = [sourcePath];
  for (const path of paths) {
    const text = readFileSync(path, "utf8");
    hash.update(`\0${basename(path)}\0${text}`);
    for (const include of text.matchAll(/^#include "(.+)"$/gm)) {
      const included = join(dirname(path), include[1]);
      if (!paths.includes(included)) paths.push(included);
    }
  }
  return hash.digest("hex").slice(0, 16);
}

function compile(sourcePath: string, target: string, flags: readonly string[]): void {
  const compiler = findCompiler(basename(sourcePath));
  try {
    mkdirSync(dirname(target), { recursive: true });
  } catch (error) {
    throw new NotPossibleHere(
      `cannot create the cache folder ${dirname(target)} (${(error as Error).message})`,
      "set XDG_CACHE_HOME to a folder that can be written",
    );
  }

  const unfinished = `${target}.${process.pid}.tmp`;
  const run = spawnSync(compiler, [...flags, "-o", unfinished, sourcePath, "-lm"], {
    encoding: "utf8",
  });
  if (run.status === 0) {
    renameSync(unfinished, target);
    return;
  }
  rmSync(unfinished, { force: true });
  throw compileFailure(sourcePath, compiler, run.stderr ?? "");
}

/** First compiler that runs: the environment's CC, then the usual names. */
function findCompiler(wantedFor: string): string {
  const candidates = process.env.CC ? [process.env.CC, ...COMPILERS] : COMPILERS;
  for (const name of candidates) {
    if (spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0) return name;
  }
  throw new NotPossibleHere(
    `no C compiler found to build ${wantedFor}`,
    'install Debian\'s packages "gcc" and "libc6-dev"',
  );
}

function compileFailure(sourcePath: string, compiler: string, messages: string): Error {
  if (/fatal error: .*No such file or directory/.test(messages)) {
    return new NotPossibleHere(
      `${compiler} finds no C headers to build ${basename(sourcePath)}`,
      'install Debian\'s packages "libc6-dev" and "linux-libc-dev"',
    );
  }
  if (/No space left on device|Disk quota exceeded|Read-only file system/.test(messages)) {
    return new NotPossibleHere(
      `${compiler} cannot write to ${cacheFolder()}`,
      "set XDG_CACHE_HOME to a folder with free space",
    );
  }
  return new AssertionFailure(`native source does not compile: ${sourcePath}\n${messages}`);
}
