import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { tellForkServer, tellSequentialFill } from "../trace/synthetic.ts";
import type { TraceSink } from "../trace/trace-sink.ts";
import { createTraceWriter } from "../trace/writer.ts";
import { DEFLATE_CODEC } from "./block-codec.ts";

const HUGELAB = resolve(import.meta.dirname, "../../dist/hugelab.mjs");
let folder = "";

function write(name: string, tell: (sink: TraceSink) => void): void {
  const chunks: Uint8Array[] = [];
  tell(createTraceWriter((chunk) => chunks.push(chunk.slice()), DEFLATE_CODEC));
  writeFileSync(join(folder, name), Buffer.concat(chunks));
}

function experiment(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [HUGELAB, "experiment", ...args], {
    cwd: folder,
    encoding: "utf8",
    env: { PATH: process.env.PATH, HOME: folder, XDG_CONFIG_HOME: folder },
  });
  return { status, stdout, stderr };
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hugelab-experiment-"));
  write("server.hlt", (sink) => tellForkServer(sink, 2048, 40));
  write("alone.hlt", (sink) => tellSequentialFill(sink, 10));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a forking server: a table for people, one JSON document for programs, the same numbers", () => {
  const machine = ["--mem", "128m", "--cpus", "1"];
  const table = experiment("shared-collapse", "server.hlt", ...machine);
  const json = experiment("shared-collapse", "server.hlt", "--json", ...machine);
  expect([table.status, json.status, table.stderr, json.stderr]).toEqual([0, 0, "", ""]);
  const { schema, fork, pages, ways } = JSON.parse(json.stdout);
  expect([schema, fork, pages]).toEqual(["hugelab.experiment", 0, 2048]);
  expect(ways.map(({ way }: { way: string }) => way)).toEqual(["left alone", "copied", "shared"]);
  const entries = ways.map(({ memory }: { memory: { lruFolios: number } }) => memory.lruFolios);
  const line = table.stdout.split("\n").find((text) => text.includes("LRU entries"))!;
  expect(line.trim().split(/\s+/).slice(2).map(Number)).toEqual(entries);
  expect(entries[2]).toBeLessThan(entries[0] - 1500);
});

test("a recording without a fork and an experiment that does not exist are mistakes of the user", () => {
  const alone = experiment("shared-collapse", "alone.hlt");
  expect([alone.status, alone.stdout]).toEqual([2, ""]);
  expect(alone.stderr).toMatch(/no process shares memory with a child/);
  const unknown = experiment("shared-colapse");
  expect([unknown.status, unknown.stderr.split("\n")[0]]).toEqual([
    2,
    expect.stringContaining("shared-collapse"),
  ]);
});
