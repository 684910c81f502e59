import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { DEFLATE_CODEC } from "../cli/block-codec.ts";
import { END_BLOCK_BYTES, endTickOf } from "./end-block.ts";
import { createTraceReader } from "./reader.ts";
import { createSummarySink } from "./summary.ts";

function recording(name: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`../../recordings/${name}.hlt`, import.meta.url)));
}

test("the end of a file tells the tick that its reader comes to", () => {
  for (const name of ["largepages", "redis"]) {
    const bytes = recording(name);
    const sink = createSummarySink(name);
    const reader = createTraceReader(sink, name, [DEFLATE_CODEC]);
    reader.push(bytes);
    reader.finish();
    const wanted = sink.summary()?.nrTicks;
    expect(endTickOf(bytes.subarray(bytes.length - END_BLOCK_BYTES))).toBe(wanted);
  }
});

test("a file that is cut off, damaged or something else tells nothing", () => {
  const bytes = recording("largepages");
  expect(endTickOf(bytes.subarray(0, bytes.length - 1))).toBe(null);
  expect(endTickOf(bytes.subarray(bytes.length - 20))).toBe(null);
  for (let at = 1; at <= 26; at++) {
    const damaged = bytes.slice(bytes.length - END_BLOCK_BYTES);
    damaged[END_BLOCK_BYTES - at] ^= 4;
    expect(endTickOf(damaged)).toBe(null);
  }
  expect(endTickOf(new Uint8Array(END_BLOCK_BYTES))).toBe(null);
  expect(endTickOf(new Uint8Array(0))).toBe(null);
});
