/**
 * The raw stream's decoder against an encoder written from docs/recording.md, and cut at every byte.
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import { type RawSink, RawStreamDamage, RawStreamDecoder } from "./record-stream.ts";

/** LEB128 as the document says it. */
function unsigned(value: number): number[] {
  const low = value % 128;
  const rest = Math.floor(value / 128);
  return rest === 0 ? [low] : [low + 128, ...unsigned(rest)];
}

function signed(value: number): number[] {
  return unsigned(value >= 0 ? value * 2 : -value * 2 - 1);
}

function text(value: string): number[] {
  const bytes = [...new TextEncoder().encode(value)];
  return [...unsigned(bytes.length), ...bytes];
}

type Call = readonly unknown[];

function decoded(chunks: readonly (readonly number[])[]): {
  calls: Call[];
  decoder: RawStreamDecoder;
} {
  const calls: Call[] = [];
  const log =
    (name: string) =>
    (...args: unknown[]) =>
      void calls.push([name, ...args]);
  const sink: RawSink = {
    time: log("time"),
    process: log("process"),
    exec: log("exec"),
    thread: log("thread"),
    threadExit: log("threadExit"),
    exit: log("exit"),
    image: log("image"),
    syscall: log("syscall"),
    touch: log("touch"),
    windowBegin: log("windowBegin"),
    accesses: (thread, batch) => {
      for (let i = 0; i < batch.length; i++) {
        calls.push(["access", thread, batch.pages[i], batch.counts[i], batch.writes[i]]);
      }
    },
    windowEnd: log("windowEnd"),
    counts: log("counts"),
    note: log("note"),
    progress: log("progress"),
    failed: log("failed"),
    end: log("end"),
  };
  const decoder = new RawStreamDecoder(sink);
  for (const chunk of chunks) decoder.push(Uint8Array.from(chunk));
  return { calls, decoder };
}

const FAR_PAGE = 0x7fff_ffff_f000 / 4096;

const EVERY_EVENT: readonly { readonly bytes: number[]; readonly call: Call }[] = [
  { bytes: [2, 0, 0, 0], call: ["process", 0, -1, "exec"] },
  { bytes: [3, 0, ...text("/bin/é")], call: ["exec", 0, "/bin/é"] },
  { bytes: [4, 0, 0], call: ["thread", 0, 0] },
  {
    bytes: [7, 0, 2, ...unsigned(FAR_PAGE), ...unsigned(2048), 3, 0, 0],
    call: [
      "image",
      { process: 0, kind: "stack", page: FAR_PAGE, nrPages: 2048, prot: 3, filePage: 0, path: "" },
    ],
  },
  { bytes: [1, ...unsigned(1e12)], call: ["time", 1e12] },
  {
    bytes: [8, 0, 0, 9, ...signed(4096 * 5), 0, ...unsigned(4096), 3, 34, 0, 0, ...text("/f")],
    call: [
      "syscall",
      { process: 0, thread: 0, number: 9, result: 20480, args: [0, 4096, 3, 34, 0, 0], path: "/f" },
    ],
  },
  { bytes: [9, 1, ...signed(FAR_PAGE), 3], call: ["touch", 0, true, FAR_PAGE, 3] },
  // Relative to the page after the last touch.
  { bytes: [9, 4, ...signed(-3), 1], call: ["touch", 2, false, FAR_PAGE, 1] },
  { bytes: [13, 1, ...signed(9), 2, 7, 8], call: ["counts", 1, FAR_PAGE + 10, 2, 7, 8] },
  { bytes: [10, 5], call: ["windowBegin", 5] },
  { bytes: [11, 5, 1, ...signed(77), ...unsigned(2 * 300 + 1)], call: ["access", 5, 77, 300, 1] },
  { bytes: [12, 5, ...unsigned(1_000_000)], call: ["windowEnd", 5, 1_000_000] },
  { bytes: [5, 5], call: ["threadExit", 5] },
  { bytes: [6, 0, ...unsigned(256 + 11)], call: ["exit", 0, 267] },
  { bytes: [14, ...text("a note")], call: ["note", "a note"] },
  { bytes: [15, 1, 2, 3], call: ["progress", 1, 2, 3] },
  { bytes: [16, ...text("no")], call: ["failed", "no"] },
  { bytes: [17, ...unsigned(2 ** 50), 0, 1], call: ["end", 2 ** 50, 0, true] },
];

test("every event is decoded as the document describes it", () => {
  const { calls, decoder } = decoded(EVERY_EVENT.map((event) => event.bytes));

  expect(calls).toEqual(EVERY_EVENT.map((event) => event.call));
  expect(decoder.isAtEventEnd()).toBe(true);
});

test("chunk borders change nothing, wherever they fall", () => {
  const bytes = EVERY_EVENT.flatMap((event) => event.bytes);
  for (let cut = 0; cut <= bytes.length; cut++) {
    const { calls } = decoded([bytes.slice(0, cut), bytes.slice(cut)]);
    expect(calls).toEqual(EVERY_EVENT.map((event) => event.call));
  }
});

test("byte by byte gives the same as at once", () => {
  const bytes = EVERY_EVENT.flatMap((event) => event.bytes);

  expect(decoded(bytes.map((byte) => [byte])).calls).toEqual(decoded([bytes]).calls);
});

test("accesses keep their order, pages and counts", () => {
  const access = fc.record({
    page: fc.integer({ min: 0, max: 2 ** 35 }),
    count: fc.integer({ min: 1, max: 2 ** 31 }),
    writes: fc.integer({ min: 0, max: 1 }),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 50 }), (list) => {
      let last = 0;
      const bytes = [11, 3, ...unsigned(list.length)];
      for (const { page, count, writes } of list) {
        bytes.push(...signed(page - last), ...unsigned(count * 2 + writes));
        last = page;
      }
      expect(decoded([bytes]).calls).toEqual(
        list.map(({ page, count, writes }) => ["access", 3, page, count, writes]),
      );
    }),
  );
});

test("an event half read is not at an end", () => {
  expect(decoded([[9, 1]]).decoder.isAtEventEnd()).toBe(false);
});

test("an unknown event, choice or batch size is damage with its offset", () => {
  expect(() => decoded([[5, 1, 99]])).toThrow(RawStreamDamage);
  expect(() => decoded([[5, 1, 99]])).toThrow("byte 3: event 99");
  expect(() => decoded([[2, 0, 0, 7]])).toThrow("choice 7");
  expect(() => decoded([[11, 0, ...unsigned(5000)]])).toThrow("a batch of 5000 accesses");
});
