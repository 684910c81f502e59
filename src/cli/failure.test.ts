import { CommanderError } from "commander";
import { describe, expect, test } from "vitest";
import { AssertionFailure } from "../base/assert.ts";
import { UsageError } from "../base/usage-error.ts";
import { DefectFound, failureOf, withReplayCommand } from "./failure.ts";
import { NotPossibleHere } from "./not-possible.ts";

describe("exit statuses", () => {
  test("a mistake of the user is one line and 2", () => {
    expect(failureOf(new UsageError("--mem", '"3"', "more"))).toEqual({
      status: 2,
      text: 'hugelab: --mem: found "3", expected more\n',
    });
  });

  test("a caret stands under the place of the mistake", () => {
    const error = new UsageError("--mem", '"12q"', "a size", { text: "12q", column: 2 });
    expect(failureOf(error).text).toBe(
      'hugelab: --mem: found "12q", expected a size\n  12q\n    ^\n',
    );
  });

  test("there is no caret under text of several lines", () => {
    const error = new UsageError("x", "y", "z", { text: "a\nb", column: 2 });
    expect(failureOf(error).text).toBe("hugelab: x: found y, expected z\n");
  });

  test("what this host cannot do is 3", () => {
    expect(failureOf(new NotPossibleHere("no gcc", "install gcc"))).toEqual({
      status: 3,
      text: "hugelab: no gcc; install gcc\n",
    });
  });

  test("commander's errors are one line and 2, its help is 0", () => {
    const unknown = new CommanderError(
      1,
      "commander.unknownOption",
      "error: unknown option '--memm'\n(Did you mean --mem?)",
    );
    expect(failureOf(unknown)).toEqual({
      status: 2,
      text: "hugelab: unknown option '--memm'; did you mean --mem?\n",
    });
    expect(failureOf(new CommanderError(0, "commander.helpDisplayed", "(outputHelp)"))).toEqual({
      status: 0,
      text: "",
    });
  });

  test.each([
    ["ENOENT", 2, "no such file"],
    ["EISDIR", 2, "is a folder"],
    ["EACCES", 3, "permission denied"],
    ["ENOSPC", 3, "the disk is full"],
  ])("a file's %s is %i", (code, status, words) => {
    const error = Object.assign(new Error("failed"), { code, path: "a.hlt" });
    expect(failureOf(error)).toEqual({ status, text: `hugelab: a.hlt: ${words}\n` });
  });

  test("a defect of ours is 4 and comes with seed and command", () => {
    const found = withReplayCommand(
      new AssertionFailure("a page was lost"),
      7,
      "hugelab replay a.hlt --seed 7",
    );
    expect(found).toBeInstanceOf(DefectFound);
    const { status, text } = failureOf(found);
    expect(status).toBe(4);
    expect(text.split("\n").slice(0, 2)).toEqual([
      "hugelab: a defect of hugelab: a page was lost (seed 7)",
      "hugelab: again with: hugelab replay a.hlt --seed 7",
    ]);
  });

  test("anything unforeseen is a defect too", () => {
    expect(failureOf(new TypeError("x is not a function")).status).toBe(4);
    expect(failureOf("text").status).toBe(4);
  });

  test("a mistake of the user is not made a defect by a replay", () => {
    const error = new UsageError("a", "b", "c");
    expect(withReplayCommand(error, 1, "x")).toBe(error);
  });
});
