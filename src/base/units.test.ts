import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatBytes,
  formatChange,
  formatCount,
  formatNs,
  formatShare,
  parseDuration,
  parseInteger,
  parseSize,
} from "./units.ts";
import { UsageError } from "./usage-error.ts";

/** The error that `run` throws, as the user sees it: the line, the text and the column of the caret. */
function usageErrorOf(run: () => unknown): { line: string; text?: string; column?: number } {
  try {
    run();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { line: error.message, ...error.excerpt };
  }
  throw new Error("nothing was thrown");
}

const SIZE_WANTED = "a size such as 512m, 4g, 0x100000, 512p (4 KiB pages) or 4hp (huge pages)";

describe("sizes", () => {
  test.each([
    ["0", 0],
    ["17", 17],
    ["17b", 17],
    ["4k", 4096],
    ["4K", 4096],
    ["4ki", 4096],
    ["4kb", 4096],
    ["4KiB", 4096],
    ["512m", 536_870_912],
    ["4g", 4_294_967_296],
    ["1TiB", 1_099_511_627_776],
    ["0x1000", 4096],
    ["0X1f", 31],
    ["512p", 2_097_152],
    ["4hp", 8_388_608],
  ])("%s is %i bytes", (text, bytes) => {
    expect(parseSize(text, "--mem")).toBe(bytes);
  });

  test.each([
    ["12q", 2],
    ["g", 0],
    ["-4g", 0],
    ["4gx", 2],
    ["4kib ", 4],
    ["1.5g", 1],
    ["4 g", 1],
    ["0x", 2],
    ["0x10k", 4],
    ["4h", 2],
    ["4bb", 2],
  ])("%s is refused and the caret stands at column %i", (text, column) => {
    expect(usageErrorOf(() => parseSize(text, "--mem"))).toEqual({
      line: `--mem: found ${JSON.stringify(text)}, expected ${SIZE_WANTED}`,
      text,
      column,
    });
  });

  test("an empty size has no place to show", () => {
    expect(usageErrorOf(() => parseSize("", "--mem"))).toEqual({
      line: `--mem: found nothing, expected ${SIZE_WANTED}`,
    });
  });

  test("a size that a double cannot hold is refused", () => {
    expect(usageErrorOf(() => parseSize("9999999t", "--mem")).line).toContain("below 2^53 bytes");
  });

  test("any whole number with any unit is the product of both", () => {
    const units: [string, number][] = [
      ["", 1],
      ["k", 1024],
      ["mib", 1024 ** 2],
      ["Gb", 1024 ** 3],
      ["p", 4096],
      ["hp", 512 * 4096],
    ];
    const property = fc.property(
      fc.nat(1_000_000),
      fc.constantFrom(...units),
      (number, [unit, factor]) => parseSize(`${number}${unit}`, "x") === number * factor,
    );
    fc.assert(property);
  });
});

describe("times", () => {
  test.each([
    ["0", 0],
    ["500ms", 500e6],
    ["2s", 2e9],
    ["1.5s", 1.5e9],
    ["10us", 10_000],
    ["7ns", 7],
    ["2min", 120e9],
    ["1h", 3600e9],
  ])("%s is %f ns", (text, ns) => {
    expect(parseDuration(text, "--interval")).toBe(ns);
  });

  test.each([
    ["5", 1],
    ["5sec", 1],
    ["ms", 0],
    ["-1s", 0],
  ])("%s is refused and the caret stands at column %i", (text, column) => {
    expect(usageErrorOf(() => parseDuration(text, "--interval"))).toEqual({
      line: `--interval: found ${JSON.stringify(text)}, expected a time such as 500ms, 2s or 10us`,
      text,
      column,
    });
  });
});

describe("whole numbers", () => {
  test("decimal and hex in range are read", () => {
    expect([parseInteger("12", 0, 20, "x"), parseInteger("0x10", 0, 20, "x")]).toEqual([12, 16]);
  });

  test("what is out of range or no number is refused", () => {
    expect(usageErrorOf(() => parseInteger("0", 1, 64, "--cpus"))).toEqual({
      line: '--cpus: found "0", expected a whole number from 1 to 64',
    });
    expect(usageErrorOf(() => parseInteger("4x", 1, 64, "--cpus"))).toEqual({
      line: '--cpus: found "4x", expected a whole number from 1 to 64',
      text: "4x",
      column: 1,
    });
  });
});

describe("printing", () => {
  test("bytes are scaled by 1024 and keep three digits, or are exact on request", () => {
    expect([0, 1023, 1024, 1536, 10 * 2 ** 20, 211_106_202].map((n) => formatBytes(n))).toEqual([
      "0 B",
      "1023 B",
      "1.00 KiB",
      "1.50 KiB",
      "10.0 MiB",
      "201 MiB",
    ]);
    expect(formatBytes(211_106_202, "exact")).toBe("211106202");
  });

  test("counts are grouped by three from five digits on", () => {
    expect([999, 1234, 12_034, 1_234_567, 48_100_000].map(formatCount)).toEqual([
      "999",
      "1234",
      "12 034",
      "1 234 567",
      "48.1 M",
    ]);
  });

  test("times pick their unit", () => {
    expect([870, 1370, 24_100_000, 2_050_000_000].map(formatNs)).toEqual([
      "870 ns",
      "1.37 us",
      "24.1 ms",
      "2.05 s",
    ]);
  });

  test("a share that is not zero never reads as zero, a change that rounds to zero has no sign", () => {
    expect([0, 0.0001, 0.632, 1].map(formatShare)).toEqual([
      "0.0 %",
      "<0.1 %",
      "63.2 %",
      "100.0 %",
    ]);
    expect([-0.0001, 0.123, -0.04].map(formatChange)).toEqual(["0.0 %", "+12.3 %", "-4.0 %"]);
  });
});
