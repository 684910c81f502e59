import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { COMMANDS } from "./commands.ts";
import { completedCommands, completionScript } from "./completion.ts";

async function wholeProgram(): Promise<Command> {
  const program = new Command("hugelab").option("--color <when>", "x");
  for (const { load } of COMMANDS) (await load())(program);
  return program;
}

describe("completion", () => {
  test("knows every command, its options and the words they take", async () => {
    const commands = completedCommands(await wholeProgram());
    expect(commands.map((command) => command.name)).toEqual(COMMANDS.map(({ name }) => name));
    const replay = commands.find((command) => command.name === "replay")!;
    const set = replay.options.find((option) => option.name === "--set")!;
    expect(set.words).toContain("khugepaged.max_ptes_none=");
    expect(replay.options.map((option) => option.name)).toContain("--color");
    expect(commands.find((command) => command.name === "list")!.words).toContain("knobs");
  });

  test.each(["bash", "zsh", "fish"] as const)(
    "%s names every command and option",
    async (shell) => {
      const commands = completedCommands(await wholeProgram());
      const script = completionScript(shell, commands);
      const optionOf = (name: string) => (shell === "fish" ? `-l ${name.slice(2)}` : name);
      const missing = commands.flatMap((command) => [
        ...(script.includes(command.name) ? [] : [command.name]),
        ...command.options.map(({ name }) => optionOf(name)).filter((o) => !script.includes(o)),
      ]);
      expect(missing).toEqual([]);
    },
  );
});
