import { expect, test } from "vitest";
import { FrameReader, FrameWriter, VERB } from "./kernel-wire.ts";

/** A request read as if it were an answer: the verb stands where the status does. */
function readBack(frame: FrameWriter): FrameReader {
  return new FrameReader(Buffer.from(frame.bytes()));
}

test("numbers of 32 and 64 bits and texts come back as they were written", () => {
  const numbers = [0, 1, -1, 2 ** 32, -(2 ** 32), 2 ** 47 - 4096, -(2 ** 53) + 1];
  const frame = new FrameWriter(VERB.CALL).u32(2 ** 32 - 1).u64(2 ** 53 - 1);
  for (const number of numbers) frame.s64(number);
  frame.text("thp/é").u32(7);

  const back = readBack(frame);

  expect(back.status).toBe(VERB.CALL);
  expect(back.u32()).toBe(2 ** 32 - 1);
  expect(back.u64()).toBe(2 ** 53 - 1);
  expect(numbers.map(() => back.s64())).toEqual(numbers);
  expect(Buffer.from(back.text(), "latin1").toString("utf8")).toBe("thp/é");
  expect(back.u32()).toBe(7);
});

test("a request that outgrows its first buffer keeps what it holds", () => {
  const frame = new FrameWriter(VERB.BEGIN);
  for (let i = 0; i < 5000; i++) frame.u32(i);

  const back = readBack(frame);

  expect(Array.from({ length: 5000 }, () => back.u32())).toEqual(
    Array.from({ length: 5000 }, (_, i) => i),
  );
});

test("arrays begin at a multiple of 8 from the frame's length field", () => {
  const frame = new FrameWriter(VERB.OBSERVE).u32(1).u32(0x04030201).u32(0x08070605);
  const back = readBack(frame);
  expect(back.u32()).toBe(1);
  // 12 bytes are behind: four are skipped.
  const room = back.room(4);
  expect(room.getUint32(0, true)).toBe(0x08070605);
});
