/**
 * `hugelab completion SHELL`: a script that completes commands, options, knobs and names in bash, zsh or fish.
 *
 * Entry: registerCompletion; completionScript is pure.
 * Holds: the words come from the program itself, so that a new option completes without being listed here.
 */

import { Argument, type Command } from "commander";
import { oneOf } from "../base/nearest.ts";
import { KNOBS } from "../huge/knob-files.ts";
import { CATALOGUES } from "../lab/catalogue.ts";
import { wantsExamples } from "./examples.ts";
import { terminalOf } from "./global-options.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

const EXAMPLES = `
Examples:
  source <(hugelab completion bash)
  hugelab completion zsh >~/.zfunc/_hugelab
  hugelab completion fish >~/.config/fish/completions/hugelab.fish
`;

/** A command as completion sees it. */
export interface CompletedCommand {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly CompletedOption[];
  /** Words for its first argument; empty: files. */
  readonly words: readonly string[];
}

export interface CompletedOption {
  /** Long form, e.g. "--mem". */
  readonly name: string;
  readonly summary: string;
  readonly takesValue: boolean;
  /** Words for its value; empty: files. */
  readonly words: readonly string[];
}

/** Adds the command to the program. */
export function registerCompletion(program: Command): void {
  program
    .command("completion")
    .summary("completion for bash, zsh or fish")
    .description("Prints a script that completes commands, options, knobs and names.")
    .addArgument(new Argument("<shell>", SHELLS.join(", ")))
    .addHelpText("after", ({ command }) => (wantsExamples(command) ? EXAMPLES : ""))
    .action(async (shell: string, _: unknown, command: Command) => {
      const name = oneOf(shell, SHELLS, "completion");
      await terminalOf(command).print(completionScript(name, completedCommands(program)));
    });
}

/** What the program has, with the words that values can be. */
export function completedCommands(program: Command): readonly CompletedCommand[] {
  const listed = (name: string) =>
    CATALOGUES.find((catalogue) => catalogue.name === name)!
      .items()
      .map((item) => item.name);
  const values: Readonly<Record<string, readonly string[]>> = {
    "--set": KNOBS.map((knob) => `${knob.name}=`),
    "--setting": listed("presets"),
    "--preset": listed("presets"),
    "--profile": listed("profiles"),
    "--geometry": listed("geometries"),
    "--costs": listed("costs").map((name) => `builtin:${name}`),
    "--translation": ["auto", "native", "nested"],
    "--format": ["table", "md", "html", "json", "ndjson"],
    "--color": ["auto", "always", "never"],
  };
  const words: Readonly<Record<string, readonly string[]>> = {
    list: CATALOGUES.map((catalogue) => catalogue.name),
    completion: SHELLS,
    help: program.commands.map((command) => command.name()),
  };
  return program.commands.map((command) => ({
    name: command.name(),
    summary: command.summary() || command.description(),
    options: [...command.options, ...program.options].flatMap((option) =>
      option.long
        ? [
            {
              name: option.long,
              summary: option.description,
              takesValue: option.required || option.optional,
              words: values[option.long] ?? [],
            },
          ]
        : [],
    ),
    words: words[command.name()] ?? [],
  }));
}

/** The script for a shell. */
export function completionScript(shell: Shell, commands: readonly CompletedCommand[]): string {
  switch (shell) {
    case "bash":
      return bashScript(commands);
    case "zsh":
      // Zsh runs bash completions; one script is one thing to keep right.
      return `#compdef hugelab\nautoload -U +X bashcompinit && bashcompinit\n${bashScript(commands)}`;
    case "fish":
      return fishScript(commands);
  }
}

function bashScript(commands: readonly CompletedCommand[]): string {
  const cases = commands.map((command) => {
    const options = command.options.map((option) => option.name).join(" ");
    return `    ${command.name}) options="${options}"; words="${command.words.join(" ")}" ;;`;
  });
  const valueCases = [...valuesByOption(commands)].map(
    ([name, words]) => `    ${name}) words="${words.join(" ")}"; options="" ;;`,
  );
  const names = commands.map((command) => command.name).join(" ");
  return `_hugelab() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]}
  local command=\${COMP_WORDS[1]} options="" words="" i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do [[ \${COMP_WORDS[i]} == -- ]] && return; done
  # A knob and its value are three words to bash: the knob, "=" and the value.
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W "${names}" -- "$current"))
    return
  fi
  case $command in
${cases.join("\n")}
  esac
  case $previous in
${valueCases.join("\n")}
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  elif [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    [[ \${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}
complete -F _hugelab hugelab
`;
}

function fishScript(commands: readonly CompletedCommand[]): string {
  const lines = ["complete -c hugelab -n __fish_use_subcommand -f"];
  for (const command of commands) {
    const when = `-n "__fish_seen_subcommand_from ${command.name}"`;
    lines.push(
      `complete -c hugelab -n __fish_use_subcommand -a ${command.name} -d ${quoted(command.summary)}`,
    );
    if (command.words.length > 0) {
      lines.push(`complete -c hugelab ${when} -f -a ${quoted(command.words.join(" "))}`);
    }
    for (const option of command.options) {
      const value = option.takesValue ? " -r" : "";
      const words = option.words.length > 0 ? ` -f -a ${quoted(option.words.join(" "))}` : "";
      lines.push(
        `complete -c hugelab ${when} -l ${option.name.slice(2)}${value}${words} -d ${quoted(option.summary)}`,
      );
    }
  }
  return `${lines.join("\n")}\n`;
}

function valuesByOption(commands: readonly CompletedCommand[]): Map<string, readonly string[]> {
  const found = commands.flatMap((command) =>
    command.options
      .filter((option) => option.words.length > 0)
      .map((option): [string, readonly string[]] => [option.name, option.words]),
  );
  return new Map(found);
}

function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
