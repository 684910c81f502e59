import { expect, test } from "vitest";
import { decodeHeader, encodeHeader } from "./header-json.ts";
import type { TraceHeader } from "./trace-sink.ts";

const HEADER: TraceHeader = {
  command: ["sort", "größe.txt"],
  source: "qemu-plugin",
  has: { exactTouches: true, counts: false, order: "full" },
  plainRun: {
    nrRuns: 3,
    wallMs: 1.5,
    userMs: 1,
    systemMs: 0.5,
    minorFaults: 10,
    majorFaults: 0,
    peakRssBytes: 4096,
    kernel: "6.18",
    cpu: "any",
  },
  notes: "note",
};

const bytes = (json: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(json));

test("a header with everything and one with only what must be there come back", () => {
  const { command, source, has } = HEADER;
  for (const header of [HEADER, { command, source, has }]) {
    expect(decodeHeader(encodeHeader(header))).toEqual({ header });
  }
});

test("fields that a later version may add are ignored", () => {
  expect(decodeHeader(bytes({ ...HEADER, weather: "fair" }))).toEqual({ header: HEADER });
});

test.each([
  ["command", { command: "sort" }],
  ["source", { source: "ptrace" }],
  ["has", { has: undefined }],
  ["has.exactTouches", { has: { ...HEADER.has, exactTouches: 1 } }],
  ["has.counts", { has: { ...HEADER.has, counts: undefined } }],
  ["has.order", { has: { ...HEADER.has, order: "some" } }],
  ["plainRun", { plainRun: { ...HEADER.plainRun, wallMs: -1 } }],
  ["plainRun", { plainRun: { ...HEADER.plainRun, kernel: 6 } }],
  ["notes", { notes: 5 }],
])("a header whose %s is wrong is refused by that name", (field, change) => {
  const decoded = decodeHeader(bytes({ ...HEADER, ...change }));
  expect(decoded).toMatchObject({ found: expect.stringContaining(`"${field}"`) });
});

test("what is no JSON, no object or no UTF-8 is refused", () => {
  for (const wrong of [
    bytes([]),
    bytes(null),
    bytes(7),
    Uint8Array.of(0x7b),
    Uint8Array.of(0xff),
  ]) {
    expect(decodeHeader(wrong)).toHaveProperty("wanted");
  }
});
