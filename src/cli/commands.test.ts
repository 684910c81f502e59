import { Command } from "commander";
import { expect, test } from "vitest";
import { COMMANDS } from "./commands.ts";

test.each(COMMANDS)(
  "$name declares itself under its name and with the summary of the list",
  async (entry) => {
    const program = new Command();
    (await entry.load())(program);
    const [command, ...others] = program.commands;
    expect(others).toEqual([]);
    expect([command.name(), command.summary()]).toEqual([entry.name, entry.summary]);
  },
);

test.each(COMMANDS)(
  "$name has a description, and one for each of its options",
  async ({ load }) => {
    const program = new Command();
    (await load())(program);
    const [command] = program.commands;
    expect(command.description()).not.toBe("");
    expect(command.options.filter((option) => option.description === "")).toEqual([]);
  },
);
