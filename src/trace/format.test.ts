import { deflateRawSync, inflateRawSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { crc32 } from "./crc32.ts";
import { BLOCK_HEADER_SIZE, type BlockCodec, FILE_HEADER_SIZE, STORED_CODEC } from "./format.ts";
import { createLogSink, type LoggedCall } from "./log-sink.ts";
import { tellRandomRecording } from "./random-recording.ts";
import { createTraceReader } from "./reader.ts";
import type { TraceSink } from "./trace-sink.ts";
import { createTraceWriter } from "./writer.ts";

/** As cli/block-codec.ts, which this folder cannot import. */
const DEFLATE_CODEC: BlockCodec = {
  name: "deflate",
  compress: (bytes) => deflateRawSync(bytes),
  decompress(bytes, size) {
    try {
      return inflateRawSync(bytes, { maxOutputLength: Math.max(1, size) });
    } catch {
      return undefined;
    }
  },
};

const NUMBERS = fc.array(fc.nat(2 ** 32 - 1), { maxLength: 400, size: "max" });
const CODECS = fc.constantFrom(STORED_CODEC, DEFLATE_CODEC);

/** The bytes of a recording that `tell` tells. */
function written(tell: (sink: TraceSink) => void, codec: BlockCodec): Uint8Array {
  const chunks: Uint8Array[] = [];
  tell(createTraceWriter((chunk) => chunks.push(chunk), codec));
  return new Uint8Array(Buffer.concat(chunks));
}

/** What a reader makes of `bytes`, fed in chunks of `step` bytes. */
function read(bytes: Uint8Array, step = bytes.length + 1): readonly LoggedCall[] {
  const { sink, calls } = createLogSink();
  const reader = createTraceReader(sink, "t.hlt", [DEFLATE_CODEC]);
  for (let at = 0; at < bytes.length; at += step) reader.push(bytes.subarray(at, at + step));
  reader.finish();
  return calls;
}

/** The UsageError that reading gives; anything else fails the test. */
function refusal(bytes: Uint8Array, step?: number): UsageError {
  try {
    read(bytes, step);
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error("the damage was not noticed");
}

const SMALL = written((sink) => tellRandomRecording(sink, [0, 0, 3, 9, 9, 9, 1, 2]), STORED_CODEC);
const MEDIUM = Uint8Array.from({ length: 2000 }, (_, i) => (i * 7919) & 255);
const RICH_NUMBERS = Array.from(MEDIUM, (byte, i) => byte * 65_537 + i);

describe("what is written is read back", () => {
  test("any valid recording, stored or deflated, read in chunks of any size", () => {
    fc.assert(
      fc.property(NUMBERS, CODECS, fc.integer({ min: 1, max: 300 }), (numbers, codec, step) => {
        const { sink, calls } = createLogSink();
        tellRandomRecording(sink, numbers);

        const bytes = written((writer) => tellRandomRecording(writer, numbers), codec);

        expect(read(bytes, step)).toEqual(calls);
      }),
      { numRuns: 300 },
    );
  });

  test("a recording of several blocks keeps its registers from block to block", () => {
    const tell = (sink: TraceSink): void => {
      sink.begin({
        command: [],
        source: "synthetic",
        has: { exactTouches: true, counts: true, order: "windows" },
      });
      sink.process(0, -1, "exec");
      sink.thread(7, 0);
      for (const mapping of [0, 1]) {
        sink.map(0, {
          mapping,
          nrPages: 1_000_000,
          prot: 3,
          isShared: false,
          backing: { kind: "anonymous" },
          placement: { kind: "any" },
          flags: [],
        });
      }
      sink.windowBegin(7);
      for (let i = 0; i < 120_000; i++) {
        sink.access(7, i & 1, (i * 37) % 1000, 1 + (i % 3), i % 5 === 0);
        if (i % 10 === 0) sink.touch(7, i & 1, i, 1, i % 20 === 0);
        if (i % 7 === 0) sink.counts(0, 0, i, 2, i, 3);
      }
      sink.windowEnd(7, 9);
      sink.end(12);
    };
    const { sink, calls } = createLogSink();
    tell(sink);

    const bytes = written(tell, DEFLATE_CODEC);

    expect(read(bytes, 65_536)).toEqual(calls);
    expect(bytes.length).toBeGreaterThan(3 * BLOCK_HEADER_SIZE);
  });

  test("first writes of rising pages cost less than a bit each", () => {
    const nrPages = 100_000;
    const bytes = written((sink) => {
      sink.begin({
        command: [],
        source: "synthetic",
        has: { exactTouches: true, counts: false, order: "none" },
      });
      sink.process(0, -1, "exec");
      sink.thread(0, 0);
      sink.map(0, {
        mapping: 0,
        nrPages,
        prot: 3,
        isShared: false,
        backing: { kind: "anonymous" },
        placement: { kind: "any" },
        flags: [],
      });
      for (let page = 0; page < nrPages; page++) {
        sink.touch(0, 0, page, 1, false);
        sink.touch(0, 0, page, 1, true);
      }
      sink.end(1);
    }, DEFLATE_CODEC);

    expect(bytes.length).toBeLessThan((2 * nrPages) / 8);
  });
});

describe("damage", () => {
  test("every prefix of a recording is told from the whole, with the offset where it stops", () => {
    for (let length = 1; length < SMALL.length; length++) {
      const error = refusal(SMALL.subarray(0, length));
      expect(error.where).toBe(`t.hlt: byte ${length}`);
      expect(error.found).toBe("the end of the file");
    }
  });

  test("every single flipped bit is noticed, at an offset not behind it", () => {
    for (let bit = 0; bit < 8 * SMALL.length; bit++) {
      const bytes = SMALL.slice();
      bytes[bit >> 3] ^= 1 << (bit & 7);
      const error = refusal(bytes, 100);
      const offset = Number(/^t\.hlt: byte (\d+)/.exec(error.where)?.[1]);
      expect(offset).toBeLessThanOrEqual(bit >> 3);
    }
  });

  test("bytes behind the end are refused at their offset", () => {
    const error = refusal(Uint8Array.from([...SMALL, 0]));
    expect(error.message).toBe(
      `t.hlt: byte ${SMALL.length}: found more bytes, expected the end of the file`,
    );
  });

  test("a lost, a doubled and an exchanged block are noticed by their numbers", () => {
    const blocks = blocksOf(written((s) => tellRandomRecording(s, RICH_NUMBERS), STORED_CODEC));
    expect(blocks.length).toBe(4);
    const [file, header, records, end] = blocks;
    for (const order of [
      [file, header, end],
      [file, records, end],
      [file, header, records, records, end],
      [file, header, end, records],
      [file, header, header, records, end],
    ]) {
      expect(refusal(new Uint8Array(Buffer.concat(order))).where).toMatch(/^t\.hlt: byte \d+$/);
    }
  });

  test("damage behind right checksums gives a UsageError with an offset and nothing else", () => {
    const edit = fc.record({
      at: fc.nat(2 ** 20),
      value: fc.nat(255),
      how: fc.constantFrom("set", "insert", "delete"),
    });
    let nrRefused = 0;
    fc.assert(
      fc.property(NUMBERS, fc.array(edit, { minLength: 1, maxLength: 4 }), (numbers, edits) => {
        const bytes = written((sink) => tellRandomRecording(sink, numbers), STORED_CODEC);
        const blocks = blocksOf(bytes);
        const records = blocks.at(-2)!;
        const payload = [...records.subarray(BLOCK_HEADER_SIZE, records.length - 4)];
        for (const { at, value, how } of edits) {
          const place = at % (payload.length + 1);
          if (how === "set") payload[place % payload.length] = value;
          else if (how === "insert") payload.splice(place, 0, value);
          else payload.splice(place, 1);
        }
        blocks[blocks.length - 2] = resealed(records, payload);
        try {
          read(new Uint8Array(Buffer.concat(blocks)), 1000);
        } catch (error) {
          nrRefused++;
          if (!(error instanceof UsageError)) throw error;
          expect(error.where).toMatch(/^t\.hlt: byte \d+/);
        }
      }),
      { numRuns: 1000 },
    );
    expect(nrRefused).toBeGreaterThan(500);
  });

  test("random bytes behind a right file header give a UsageError with an offset", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (garbage) => {
        const bytes = Uint8Array.from([...SMALL.subarray(0, FILE_HEADER_SIZE), ...garbage]);
        expect(refusal(bytes, 7).where).toMatch(/^t\.hlt: byte \d+/);
      }),
    );
  });

  test("a block that claims to be huge is refused before memory is taken for it", () => {
    const bytes = SMALL.slice();
    const view = new DataView(bytes.buffer);
    view.setUint32(FILE_HEADER_SIZE + 8, 0xffffffff, true);
    view.setUint32(FILE_HEADER_SIZE + 16, crc32(bytes, 16, 32), true);
    expect(refusal(bytes).message).toBe(
      "t.hlt: byte 16: found a block of 4294967295 bytes, expected at most 8388608",
    );
  });

  test("deflated bytes that unpack to more than they claim are refused", () => {
    const blocks = blocksOf(SMALL);
    const bomb = DEFLATE_CODEC.compress(new Uint8Array(1 << 20));
    blocks[2] = resealed(blocks[2], [...bomb]);
    blocks[2][1] = 1;
    new DataView(blocks[2].buffer).setUint32(16, crc32(blocks[2], 0, 16), true);
    const error = refusal(new Uint8Array(Buffer.concat(blocks)));
    expect(error.found).toBe("compressed bytes that do not unpack");
  });
});

describe("files that are something else", () => {
  const refused = (bytes: Iterable<number>): string => refusal(Uint8Array.from(bytes)).message;
  const text = (characters: string): number[] => [...characters].map((c) => c.charCodeAt(0));

  test("an empty file says so", () => {
    expect(refused([])).toBe("t.hlt: byte 0: found an empty file, expected a hugelab recording");
  });

  test("gzip, ELF, perf.data, text and noise are named", () => {
    expect(refused([0x1f, 0x8b, 8, 0])).toMatch(/found gzip data, expected a hugelab recording$/);
    expect(refused(text("\x7fELF\x02\x01\x01"))).toMatch(/found a program \(ELF\)/);
    expect(refused(text("PERFILE2...."))).toMatch(/found perf\.data/);
    expect(refused(text("hello, world"))).toMatch(/found text beginning "hello, world"/);
    expect(refused([0, 1, 2, 3])).toMatch(/found other data beginning 00 01 02 03/);
  });

  test("a recording of another major version says which one and what to do", () => {
    const bytes = SMALL.slice();
    new DataView(bytes.buffer).setUint16(8, 7, true);
    new DataView(bytes.buffer).setUint32(12, crc32(bytes, 0, 12), true);
    expect(refused(bytes)).toBe(
      "t.hlt: byte 0: found a recording of format 7.0, expected format 1; a newer hugelab reads it",
    );
  });

  test("a later minor version's extra blocks are skipped", () => {
    const [file, header, records, end] = blocksOf(SMALL);
    new DataView(file.buffer).setUint16(10, 9, true);
    new DataView(file.buffer).setUint32(12, crc32(file, 0, 12), true);
    const extra = resealed(header, text("of the future"));
    extra[0] = 0x78;
    const blocks = [header, extra, records, end].map((block, i) => renumbered(block, i));
    const last = [...end.subarray(BLOCK_HEADER_SIZE, end.length - 4)];
    last[last.length - 1]++;
    blocks[3] = renumbered(resealed(end, last), 3);

    expect(read(new Uint8Array(Buffer.concat([file, ...blocks])))).toEqual(read(SMALL));
  });
});

/** The file header and each block of a recording, as copies. */
function blocksOf(bytes: Uint8Array): Uint8Array<ArrayBuffer>[] {
  const blocks = [bytes.slice(0, FILE_HEADER_SIZE)];
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let at = FILE_HEADER_SIZE; at < bytes.length; ) {
    const end = at + BLOCK_HEADER_SIZE + view.getUint32(at + 8, true) + 4;
    blocks.push(bytes.slice(at, end));
    at = end;
  }
  return blocks;
}

/** A block with another stored payload and right sizes and checksums. */
function resealed(block: Uint8Array, payload: readonly number[]): Uint8Array<ArrayBuffer> {
  const sealed = new Uint8Array(BLOCK_HEADER_SIZE + payload.length + 4);
  sealed.set(block.subarray(0, BLOCK_HEADER_SIZE));
  sealed.set(payload, BLOCK_HEADER_SIZE);
  const view = new DataView(sealed.buffer);
  view.setUint32(8, payload.length, true);
  view.setUint32(12, payload.length, true);
  view.setUint32(16, crc32(sealed, 0, 16), true);
  const end = BLOCK_HEADER_SIZE + payload.length;
  view.setUint32(end, crc32(sealed, BLOCK_HEADER_SIZE, end), true);
  return sealed;
}

function renumbered(block: Uint8Array, sequence: number): Uint8Array {
  const copy = block.slice();
  new DataView(copy.buffer).setUint32(4, sequence, true);
  new DataView(copy.buffer).setUint32(16, crc32(copy, 0, 16), true);
  return copy;
}
