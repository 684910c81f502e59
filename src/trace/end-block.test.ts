import { deflateRawSync, inflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import { END_BLOCK_BYTES, endTickOf } from "./end-block.ts";
import type { BlockCodec } from "./format.ts";
import { createTraceWriter } from "./writer.ts";

/** As cli/block-codec.ts, which this folder cannot import. */
const DEFLATE_CODEC: BlockCodec = {
  name: "deflate",
  compress: (bytes) => deflateRawSync(bytes),
  decompress: (bytes, size) => inflateRawSync(bytes, { maxOutputLength: Math.max(1, size) }),
};

/** A recording of one process that ends at `tick`. */
function recording(tick: number): Uint8Array {
  const chunks: Uint8Array[] = [];
  const sink = createTraceWriter((chunk) => chunks.push(chunk), DEFLATE_CODEC);
  const has = { exactTouches: true, counts: false, order: "none" } as const;
  sink.begin({ command: ["x"], source: "synthetic", has });
  sink.process(0, -1, "exec");
  sink.thread(0, 0);
  sink.exit(0, 0);
  sink.end(tick);
  return new Uint8Array(Buffer.concat(chunks));
}

test("the last bytes of a recording tell its length", () => {
  for (const tick of [0, 1, 127, 128, 1_840_000_000, 123_456_789_012_345]) {
    const bytes = recording(tick);
    expect(endTickOf(bytes)).toBe(tick);
    expect(endTickOf(bytes.subarray(bytes.length - END_BLOCK_BYTES))).toBe(tick);
  }
});

test("a file that is cut off, damaged or something else tells nothing", () => {
  const bytes = recording(1_840_000_000);
  expect(endTickOf(bytes.subarray(0, bytes.length - 1))).toBe(null);
  expect(endTickOf(bytes.subarray(bytes.length - 20))).toBe(null);
  // All of the block: its header, seven stored bytes, its checksum.
  for (let at = 1; at <= 20 + 7 + 4; at++) {
    const damaged = bytes.slice();
    damaged[damaged.length - at] ^= 4;
    expect([at, endTickOf(damaged)]).toEqual([at, null]);
  }
  expect(endTickOf(new Uint8Array(END_BLOCK_BYTES))).toBe(null);
  expect(endTickOf(new Uint8Array(0))).toBe(null);
});
