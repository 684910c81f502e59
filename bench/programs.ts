/**
 * The real programs of `npm run accuracy`, of different character, each with the data it works on.
 *
 * Entry: accuracyPrograms; the same seed gives the same data everywhere.
 * Sizes: about half a second to two seconds of CPU time each, so that recording them stays short.
 */

import { existsSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createRandom, nextBelow, type Random } from "../src/base/random.ts";

export interface AccuracyProgram {
  readonly name: string;
  /** What kind of program it is, in a few words. */
  readonly character: string;
  readonly command: readonly string[];
  /** Shell command that runs beside the program and makes it end; "" for a program that ends by itself. */
  readonly driver: string;
  /** File names to create in the working folder before the first run. */
  readonly data: Readonly<Record<string, () => string>>;
}

const PYTHON_DICTIONARY = `
table = {}
for i in range(1000000):
    table[i * 2654435761 % 4294967296] = str(i)
print(sum(len(table[key]) for key in table))
`;

const PERL_HASH = `
my %h;
for my $i (1..250000) { $h{($i * 7919) % 1000003} = "v$i"; }
my $sum = 0;
for my $key (sort keys %h) { $sum += length $h{$key} }
print "$sum\\n";
`;

/**
 * \`$S\` talks to the server; keys are visited in the order of a linear congruential generator. The saved file is removed before
 * the server ends, because the driver ends with it: the next server would load the file while this fills it, and abort.
 */
const REDIS_LOAD = `
S="redis-cli -s $PWD/redis.sock"
until $S ping >/dev/null 2>&1; do sleep 0.05; done
$S debug populate 400000 key 100 >/dev/null
$S eval "local x = 1 for i = 1, 300000 do x = (x * 1103515245 + 12345) % 2147483648 redis.call('get', 'key:' .. (x % 400000)) end return x" 0 >/dev/null
$S bgsave >/dev/null
$S eval "local x = 1 for i = 1, 60000 do x = (x * 1103515245 + 12345) % 2147483648 redis.call('set', 'key:' .. (x % 400000), 'changed' .. x) end return x" 0 >/dev/null
while $S info persistence | grep -q rdb_bgsave_in_progress:1; do sleep 0.05; done
rm -f dump.rdb
$S shutdown nosave
`;

/** Those whose program is installed, and the names of the others. */
export function accuracyPrograms(): { present: AccuracyProgram[]; missing: string[] } {
  const present: AccuracyProgram[] = [];
  const missing: string[] = [];
  for (const program of PROGRAMS) {
    const path = findOnPath(program.command[0]);
    if (path === null) missing.push(`${program.name} (${program.command[0]})`);
    else present.push({ ...program, command: [path, ...program.command.slice(1)] });
  }
  return { present, missing };
}

const PROGRAMS: readonly AccuracyProgram[] = [
  {
    name: "python3 dictionary",
    character: "interpreter, many small objects and a growing table",
    command: ["python3", "-c", PYTHON_DICTIONARY],
    driver: "",
    data: {},
  },
  {
    name: "sort",
    character: "one large buffer, merge sort over pointers",
    command: ["sort", "-S", "200M", "--parallel=1", "-o", "sorted.txt", "lines.txt"],
    driver: "",
    data: { "lines.txt": () => randomLines(500_000) },
  },
  {
    name: "gcc -O1 -S",
    character: "compiler: fork, exec, garbage-collected trees",
    command: ["gcc", "-O1", "-S", "-o", "functions.s", "functions.c"],
    driver: "",
    data: { "functions.c": () => manyFunctions(160) },
  },
  {
    name: "xz -6",
    character: "compressor: large hash tables sparsely used",
    command: ["xz", "-6", "-k", "-f", "-T1", "short.txt"],
    driver: "",
    data: { "short.txt": () => randomLines(40_000) },
  },
  {
    name: "zstd -17 --long=27",
    character: "compressor: a large window, tables used at random",
    command: ["zstd", "-17", "--long=27", "-q", "-f", "--single-thread", "long.txt"],
    driver: "",
    data: { "long.txt": () => randomLines(100_000) },
  },
  {
    name: "perl hash",
    character: "interpreter on a heap grown by brk",
    command: ["perl", "-e", PERL_HASH],
    driver: "",
    data: {},
  },
  {
    name: "redis-server",
    character: "server: random reads, BGSAVE by fork, copy-on-write",
    command: [
      ..."redis-server --port 0 --unixsocket redis.sock --disable-thp no".split(" "),
      ..."--enable-debug-command yes --dir .".split(" "),
      "--save",
      "",
    ],
    driver: REDIS_LOAD,
    data: {},
  },
];

/** Creates the data files that are not there yet. */
export function prepareData(program: AccuracyProgram, folder: string): void {
  for (const [name, make] of Object.entries(program.data)) {
    const path = join(folder, name);
    if (!existsSync(path)) writeFileSync(path, make());
  }
}

/** The system's own directories first: wrapper scripts of version managers cannot be recorded. */
function findOnPath(name: string): string | null {
  const folders = ["/usr/bin", "/bin", ...(process.env.PATH ?? "").split(delimiter)];
  for (const folder of folders) {
    const path = join(folder, name);
    if (existsSync(path)) return path;
  }
  return null;
}

function randomLines(nrLines: number): string {
  const random = createRandom(1);
  const lines: string[] = [];
  for (let i = 0; i < nrLines; i++) {
    lines.push(`${word(random)} ${nextBelow(random, 1_000_003)} ${word(random)} ${i % 977}`);
  }
  return `${lines.join("\n")}\n`;
}

function word(random: Random): string {
  return nextBelow(random, 36 ** 5).toString(36);
}

/** C functions with loops and switches: work for an optimising compiler. */
function manyFunctions(nrFunctions: number): string {
  const functions = Array.from(
    { length: nrFunctions },
    (_, i) => `int f${i}(int a, int b) {
  int s = 0;
  for (int i = 0; i < a; i++) {
    s += (i * ${i} + b) % ${i + 3};
    if (s & ${1 << (i % 8)}) s ^= b << ${i % 5}; else s -= a / ${i + 1};
  }
  switch (s % 5) {
    case 0: return s;
    case 1: return s * b + ${i > 0 ? `f${i - 1}(b, a)` : "a"};
    case 2: return a - b;
    default: return ${i};
  }
}
`,
  );
  return functions.join("\n");
}
