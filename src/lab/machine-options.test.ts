import { expect, test } from "vitest";
import { editDistance, nearestOf } from "../base/nearest.ts";
import { parseCpus, parseMemory, parseProfile, parseTranslation } from "./machine-options.ts";

test("memory is a size that a machine can have", () => {
  expect(parseMemory("16g", "--mem")).toBe(17_179_869_184);
  expect(parseMemory("64m", "--mem")).toBe(67_108_864);
  expect(() => parseMemory("3", "--mem")).toThrow(
    '--mem: found "3" (3 B), an impossible machine, expected 16m to 4t of memory in steps of 4m, e.g. 16g',
  );
  expect(() => parseMemory("5t", "--mem")).toThrow("an impossible machine");
});

test("a machine has at least one CPU", () => {
  expect(() => parseCpus("0", "--cpus")).toThrow("expected a whole number from 1 to 256");
});

test("unknown profiles and translations name the nearest", () => {
  expect(() => parseProfile("linux-6.17", "--profile")).toThrow("did you mean linux-6.18?");
  expect(() => parseTranslation("nestd", "--translation")).toThrow(
    '--translation: found "nestd", expected auto, native, nested, nested:4k, nested:2m or nested:1g; did you mean nested?',
  );
});

test("a swap of neighbours is one edit, and far words suggest nothing", () => {
  expect(editDistance("kitten", "sitting")).toBe(3);
  expect(editDistance("thp.enabeld", "thp.enabled")).toBe(1);
  expect(nearestOf("compar", ["compare", "calibrate"])).toBe("compare");
  expect(nearestOf("zzz", ["compare", "calibrate"])).toBeUndefined();
});
