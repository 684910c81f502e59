import { expect, test } from "vitest";
import { DEFLATE_CODEC } from "./block-codec.ts";

const BYTES = Uint8Array.from({ length: 5000 }, (_, i) => (i * i) & 15);

test("what is compressed comes back, and is smaller", () => {
  const packed = DEFLATE_CODEC.compress(BYTES);
  expect(packed.length).toBeLessThan(BYTES.length);
  expect(DEFLATE_CODEC.decompress(packed, BYTES.length)).toEqual(Buffer.from(BYTES));
});

test("bytes that would unpack to more, to less or to nothing give undefined", () => {
  const packed = DEFLATE_CODEC.compress(BYTES);
  expect(DEFLATE_CODEC.decompress(packed, BYTES.length - 1)).toBeUndefined();
  expect(DEFLATE_CODEC.decompress(packed, BYTES.length + 1)).toBeUndefined();
  expect(DEFLATE_CODEC.decompress(packed.subarray(0, 9), BYTES.length)).toBeUndefined();
  expect(DEFLATE_CODEC.decompress(Uint8Array.of(255, 255), 1)).toBeUndefined();
  expect(DEFLATE_CODEC.decompress(Uint8Array.of(3, 0), 0)).toEqual(Buffer.alloc(0));
});
