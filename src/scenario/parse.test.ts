import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { formatScenario } from "./format.ts";
import { MOST_CHARACTERS, parseScenario } from "./parse.ts";
import type { Scenario } from "./syntax.ts";

/** One line of every kind. */
const EVERYTHING = `
# A comment, then a header
scenario: every "kind of [line
rules: ANON-151 ANON-158
rules: PHYS-001
on: model
machine: memory=64m cpus=1 nodes=1 profile=linux-6.12 seed=7 memory_failure=on
knobs: thp.enabled=always thp.defrag=never
knobs: thp.hugepages-64kB.enabled=inherit
swap: 64m

map R 2hp
map S 0x10000 skew=3 prot=r shared populate # comment
map T 16p at=S[4..8] prot=none locked stack noreserve growsdown
main: map U 4m droppable zerofile anywhere
unmap R[1]
protect R[0..3] rx -> 0
protect R none
remap R[0..1hp] V size=4m dontunmap
remap R W at=S[2] -> ENOMEM
remap S X inplace anywhere -> ?
brk 0x123
write heap[0]
madvise R HUGEPAGE
madvise R[3] 99 -> EINVAL
madvise R COLLAPSE offset=1 -> EINVAL
madvise R COLLAPSE length=-4k -> EINVAL
madvise R COLLAPSE length=100
process-madvise main R S[0..8] COLLAPSE -> 2130000
process-madvise pidfd=self R 14 flags=1 vlen=3 offset=5 length=-1 vector=unreadable -> ?
process-madvise pidfd=kernel-thread COLLAPSE -> 0
khugepaged passes=3
read R[0..512 by 16]
write R[3] -> SIGSEGV
read R -> SIGBUS
mlock R
mlock2 R[0..3] onfault
mlock2 R
munlock R
mlockall current future onfault
munlockall
mseal R
mincore R -> 0
prctl thp-disable on
prctl thp-disable off
prctl thp-disable except-advised
prctl thp-disable 1 1 0 0 -> EINVAL
prctl thp-disable get -> 3
prctl thp-disable get 1 0 0 0 -> EINVAL
fork C
C: fork D
C: thread T1
T1: write R[0]
pin P R[0..8]
hold-page Q R[3]
release P
knob thp.enabled="always never" -> EINVAL
knob thp.use_zero_page=0
memcg G max=8m
memcg H
C: join G
limit G none
limit G 4m -> EBUSY
swapoff
swapon
drop-caches
mark
hold C at copy: madvise R[0..512] PAGEOUT
continue C -> 0
hold D at copy: unmap R -> EINTR
fail alloc order=9 count=3
fail charge
fragment order=9
defragment
snapshot S1
T1: exit
C: exit
restore S1
C: exit
shrink
shrink nr=3
poison R[3]
soft-offline R[4] -> EBUSY
expect R[0..8] huge mapcount=1..2 exclusive=1 folios=1
expect D: R[0..512 by 2] order=9 index=0 resident=3 skew=0
expect R none
expect R[0] value=zero shared-with=D flags=dirty,!active reason="PTE table present"
expect R vmas=0+4,4+508
expect R vmas=2
expect R smaps Rss=2m VmFlags=hg,!nh THPeligible=1
expect status VmPTE=-8k..12k THP_enabled=0
expect faults minor=3 major=0
expect counters thp_split_pmd=1 nr_anon_transparent_hugepages=-1 2048kB/split=1
expect counters none
expect knob thp.enabled=always
expect trace none
expect D: trace isolate,collapse,scan_pmd
expect trace scan_pmd
expect trace scan_pmd status=succeeded none_or_zero=3..5 count=2
`;

/** Without what depends on the text: lines, columns, the file. */
function meaning(scenario: Scenario): unknown {
  const text = JSON.stringify({ header: scenario.header, steps: scenario.steps });
  return JSON.parse(text, (key, value) => (key === "line" || key === "column" ? 0 : value));
}

test("a formatted scenario parses to the same steps", () => {
  const parsed = parseScenario("a.scn", EVERYTHING);
  const text = formatScenario(parsed);
  expect(meaning(parseScenario("b.scn", text))).toEqual(meaning(parsed));
  expect(formatScenario(parseScenario("b.scn", text))).toBe(text);
});

const HEAD = "scenario: x\nmap R 2hp\nfork C\n";

/** What is said of the last line, with the text under which the caret stands. */
function mistake(text: string): string {
  try {
    parseScenario("f.scn", text);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const { message, excerpt } = error;
    return `${message} @ ${excerpt!.text.slice(excerpt!.column)}`;
  }
  return "accepted";
}

describe("a mistake is answered with its place, what was found and what was expected", () => {
  test.each([
    ["map S", "found the end of the line, expected a size such as 2hp @ "],
    ["map S 3", 'found "3", expected whole pages of 4096 bytes @ 3'],
    [
      "map S 2x",
      'found "2x", expected a size such as 512m, 4g, 0x100000, 512p (4 KiB pages) or 4hp (huge pages) @ x',
    ],
    ["map R 1hp", 'found "R", expected a new name: R was given on line 2 @ R 1hp'],
    [
      "map 3 1hp",
      'found "3", expected a name for a range: a letter, then letters, digits, _ or - @ 3 1hp',
    ],
    [
      "map expect 1hp",
      'found "expect", expected a name that is not a word of the language @ expect 1hp',
    ],
    [
      "map S 1hp popluate",
      'found "popluate", expected at=, skew=, prot= or a flag of shared populate locked stack noreserve growsdown droppable zerofile anywhere; did you mean populate? @ popluate',
    ],
    ["map S 1hp skew=512", 'found "512", expected a whole number from 0 to 511 @ 512'],
    ["map S 1hp at=R[0] skew=1", 'found "skew=1", expected at= or skew=, not both @ skew=1'],
    ["wirte R", 'found "wirte", expected a verb; did you mean write? @ wirte R'],
    ["seek R", 'found "seek", expected another verb: `seek` is not built yet @ seek R'],
    ["write Q", 'found "Q", expected a range by name (R); did you mean R? @ Q'],
    ["write R[3..1]", 'found "R[3..1]", expected a page from 3 on @ 1]'],
    [
      "write R[1hx]",
      'found "R[1hx]", expected a page: a number such as 3, or 1hp for 2 MiB @ 1hx]',
    ],
    ["write R[0..4 by 0]", 'found "0", expected a whole number from 1 to 262144 @ 0]'],
    [
      "write R[262144]",
      'found "R[262144]", expected a page less than 1 GiB from the start of the range @ 262144]',
    ],
    ["write R[0", "found the end of the line, expected ] that closes this @ [0"],
    ["write R[0]x", 'found "R[0]x", expected a span such as R, R[3], R[0..8] or R[0..2hp] @ x'],
    [
      "unmap R[0..8 by 2]",
      'found "R[0..8 by 2]", expected no `by`: only read, write and expect take it @ 2]',
    ],
    [
      "protect R wr",
      'found "wr", expected a protection: letters of rwx in that order, or none @ wr',
    ],
    [
      "madvise R HUGEPGE",
      'found "HUGEPGE", expected an advice such as HUGEPAGE, or its number; did you mean HUGEPAGE? @ HUGEPGE',
    ],
    [
      "unmap R -> EINVL",
      'found "EINVL", expected an errno name, a number or ?; did you mean EINVAL? @ EINVL',
    ],
    ["read R -> EINVAL", 'found "EINVAL", expected SIGSEGV, SIGBUS or ? @ EINVAL'],
    [
      "madvise R COLLAPSE offset=4096",
      'found "4096", expected a whole number from 0 to 4095 @ 4096',
    ],
    [
      "madvise R COLLAPSE lenght=1",
      'found "lenght=1", expected offset=BYTES or length=BYTES, each once @ lenght=1',
    ],
    [
      "process-madvise pidfd=slef R COLLAPSE",
      'found "pidfd=slef", expected pidfd= and one of self, bad, zombie, reaped, kernel-thread @ slef R COLLAPSE',
    ],
    [
      "process-madvise D R COLLAPSE",
      'found "D", expected a process or thread by name (main, C); did you mean C? @ D R COLLAPSE',
    ],
    ["process-madvise C", "found the end of the line, expected an advice such as COLLAPSE @ "],
    ["process-madvise C R", 'found "R", expected an advice such as HUGEPAGE, or its number @ R'],
    [
      "process-madvise C COLLAPSE vlen=1",
      'found "COLLAPSE", expected a span for the elements of the vector, then the advice @ COLLAPSE vlen=1',
    ],
    [
      "process-madvise C R COLLAPSE flag=1",
      'found "flag=1", expected flags=, vlen=, offset=, length= or vector=unreadable; did you mean flags? @ flag=1',
    ],
    ["khugepaged", "found the end of the line, expected passes=N @ "],
    ["khugepaged passes=0", 'found "0", expected a whole number from 1 to 1000 @ 0'],
    [
      "knob khugepaged.scan_sleep_millisecs=10",
      'found "khugepaged.scan_sleep_millisecs=10", expected `khugepaged passes=N` instead: the daemon sleeps but for that @ khugepaged.scan_sleep_millisecs=10',
    ],
    [
      "expect trace scan_pdm",
      'found "scan_pdm", expected an event; did you mean scan_pmd? @ scan_pdm',
    ],
    [
      "expect trace isolate,collapse count=1",
      'found "count=1", expected the end of the line @ count=1',
    ],
    [
      "expect trace scan_pmd state=failed",
      'found "state", expected a field of events, or count @ state=failed',
    ],
    ["mark now", 'found "now", expected the end of the line @ now'],
    ["unmap R now", 'found "now", expected `-> RESULT` or the end of the line @ now'],
    [
      "D: write R",
      'found "D", expected a process or thread by name (main, C); did you mean C? @ D: write R',
    ],
    [
      "C: exit\nC: write R",
      'found "C", expected a process or thread; C ended on line 4 @ C: write R',
    ],
    ["release X", 'found "X", expected a pin by name (none yet) @ X'],
    [
      "shrink",
      'found "shrink", expected `on: model` in the header: only the model can do this @ shrink',
    ],
    [
      "knob thp.enabld=always",
      'found "thp.enabld", expected a knob of `hugelab list knobs`; did you mean thp.enabled? @ thp.enabld=always',
    ],
    [
      "knob thp.enabled=alwys",
      'found "alwys", expected always, madvise or never; did you mean always? @ alwys',
    ],
    [
      "knobs: thp.enabled=always",
      'found "knobs", expected header lines before the first statement @ knobs: thp.enabled=always',
    ],
    ["expect R hug", 'found "hug", expected one state, then KEY=VALUE; did you mean huge? @ hug'],
    ["expect R", "found the end of the line, expected a state such as huge, or KEY=VALUE @ "],
    ["expect R[3..3] huge", 'found "R[3..3]", expected at least one page @ R[3..3] huge'],
    [
      "expect R huge mapcout=1",
      'found "mapcout", expected one of mapcount, order, index, exclusive, resident, folios, skew, value, shared-with, flags, reason, vmas; did you mean mapcount? @ mapcout=1',
    ],
    ["expect R mapcount=3..1", 'found "mapcount=3..1", expected a value from 3 on @ 1'],
    [
      "expect R reason=x",
      'found "reason=x", expected `on: model` in the header: only the model knows reasons @ reason=x',
    ],
    [
      "expect R[0..4 by 2] smaps Rss=1m",
      'found "R[0..4 by 2]", expected a span without steps: smaps looks at the VMAs that begin in it @ R[0..4 by 2] smaps Rss=1m',
    ],
    [
      "expect counters thp_split=1",
      'found "thp_split", expected a name of counters; did you mean thp_swpout? @ thp_split=1',
    ],
    [
      "expect R flags=drty",
      'found "drty", expected a flag of kpageflags; did you mean dirty? @ drty',
    ],
  ])("%s", (line, wanted) => {
    const number = 4 + line.split("\n").length - 1;
    const said = mistake(`${HEAD}${line}`);
    expect(said).toBe(`f.scn:${number}: ${wanted}`);
  });
});

describe("a header's mistakes", () => {
  test.each([
    [
      "map R 1hp",
      "f.scn:1: found no scenario line, expected `scenario: what it shows` before the statements @ map R 1hp",
    ],
    [
      "scenario:  # nothing",
      "f.scn:1: found the end of the line, expected one line that says what is shown @   # nothing",
    ],
    [
      "scenario: x\nscenario: y",
      "f.scn:2: found a second title, expected one scenario line @ scenario: y",
    ],
    [
      "scenario: x\nrule: ANON-001",
      'f.scn:2: found "rule", expected a header line or a process by name; did you mean rules? @ rule: ANON-001',
    ],
    [
      "scenario: x\nrules: RULE-1",
      'f.scn:2: found "RULE-1", expected a rule ID such as ANON-151 @ RULE-1',
    ],
    ["scenario: x\non: kernel", 'f.scn:2: found "kernel", expected model or both @ kernel'],
    [
      "scenario: x\nmachine: memory=3m",
      'f.scn:2: found "memory=3m", expected a multiple of 4M @ 3m',
    ],
    [
      "scenario: x\nmachine: profile=linux-7",
      'f.scn:2: found "profile=linux-7", expected one of linux-6.18, linux-6.12, seed-2011 @ linux-7',
    ],
    ["scenario: x\nmachine: cpus=1 cpus=2", 'f.scn:2: found "cpus=2", expected cpus once @ cpus=2'],
    [
      "scenario: x\nknobs: thp.enabled",
      'f.scn:2: found "thp.enabled", expected KNOB=VALUE such as thp.enabled=always @ thp.enabled',
    ],
    ["scenario: x\nswap: 3", 'f.scn:2: found "3", expected whole pages of 4096 bytes @ 3'],
  ])("%s", (text, wanted) => {
    expect(mistake(text)).toBe(wanted);
  });
});

test("a file is at most 1 MiB and 10 000 lines", () => {
  expect(() => parseScenario("f", "#".repeat(MOST_CHARACTERS + 1))).toThrow("1048577 characters");
  expect(() => parseScenario("f", "\n".repeat(10_000))).toThrow("10001 lines");
});

test("a profile other than the live kernel's is for the model alone", () => {
  const scenario = parseScenario(
    "f",
    "scenario: x\nmachine: profile=linux-6.12\nmap R 1hp\nshrink\n",
  );
  expect(scenario.header.on).toBe("model");
});

// Whatever the text, the parser answers with a scenario or with a UsageError.
const SEED = 20260301;

function parsesOrComplains(text: string): void {
  try {
    parseScenario("f.scn", text);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const { excerpt } = error;
    if (excerpt === undefined) return;
    expect(excerpt.column).toBeGreaterThanOrEqual(0);
    expect(excerpt.column).toBeLessThanOrEqual(excerpt.text.length);
  }
}

test("any text is parsed or answered with a UsageError", () => {
  fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 200 }), parsesOrComplains), {
    seed: SEED,
    numRuns: 500,
  });
});

test("a valid file with some of it changed is parsed or answered with a UsageError", () => {
  const words = EVERYTHING.split(/(\s+)/);
  const change = fc.record({
    at: fc.nat(words.length - 1),
    by: fc.oneof(
      fc.string({ maxLength: 6 }),
      fc.constantFrom(...words),
      fc.constantFrom(
        "",
        "[",
        '"',
        "->",
        "R[0..",
        "0..",
        "=",
        "__proto__",
        "constructor",
        "hp]",
        "\t",
        "9".repeat(30),
      ),
    ),
  });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const text = [...words];
      for (const { at, by } of changes) text[at] = by;
      parsesOrComplains(text.join(""));
    }),
    { seed: SEED, numRuns: 600 },
  );
});

test("what is parsed after a change formats to the same meaning", () => {
  const lines = EVERYTHING.split("\n");
  fc.assert(
    fc.property(fc.subarray(lines), (chosen) => {
      let scenario: Scenario;
      try {
        scenario = parseScenario(
          "f",
          `scenario: x\non: model\n${chosen.filter((l) => !/^(scenario|on):/.test(l)).join("\n")}`,
        );
      } catch {
        return;
      }
      expect(meaning(parseScenario("f", formatScenario(scenario)))).toEqual(meaning(scenario));
    }),
    { seed: SEED, numRuns: 300 },
  );
});
