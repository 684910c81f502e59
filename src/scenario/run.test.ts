import { describe, expect, test } from "vitest";
import type { Backend, StepResult } from "./backend.ts";
import { createModelBackend } from "./model-backend.ts";
import type { Observation } from "./observation.ts";
import { parseScenario } from "./parse.ts";
import { compareRecordings, readRecording, recordScenario, writeRecording } from "./recording.ts";
import { type Finding, runBoth, runScenario } from "./run.ts";

const HEAD = "scenario: x\nknobs: thp.enabled=always\n\n";

function findings(lines: string): string[] {
  const { findings: found } = runScenario(
    parseScenario("f.scn", HEAD + lines),
    createModelBackend(),
  );
  return found.map(({ line, wanted, seen }) => `${line}: ${wanted}, not ${seen}`);
}

describe("what is otherwise than expected is found with its line", () => {
  test.each([
    ["expect R small", "6: small, not R[0] huge"],
    ["expect R[512..1024] huge", "6: huge, not R[512] none"],
    ["expect R[3] mapcount=2", "6: mapcount=2, not R[3] 1"],
    ["expect R[0] order=8", "6: order=8, not R[0] 9"],
    ["expect R[3] index=4", "6: index=4, not R[3] 3"],
    ["expect R[3] exclusive=0", "6: exclusive=0, not R[3] 1"],
    ["expect R[0..512] folios=2", "6: folios=2, not folios=1"],
    ["expect R resident=3", "6: resident=3, not resident=512"],
    ["expect R[0] value=zero", "6: value=zero, not R[0] written"],
    ["expect R[1] value=written", "6: value=written, not R[1] zero"],
    ["expect R skew=1", "6: skew=1, not skew=0"],
    ["expect R vmas=2", "6: vmas=2, not vmas=1 (0+1024)"],
    ["expect R vmas=0+512,512+512", "6: vmas=0+512,512+512, not vmas=1 (0+1024)"],
    ["expect R[0] flags=mlocked", "6: flags=mlocked, not R[0] without mlocked"],
    ["expect R[0] flags=!swapbacked", "6: flags=!swapbacked, not R[0] with swapbacked"],
    ["expect R smaps Rss=3m", "6: Rss=3m, not Rss=2m"],
    ["expect R smaps THPeligible=0", "6: THPeligible=0, not THPeligible=1"],
    ["expect status VmPTE=0", "6: VmPTE=0, not VmPTE=12k"],
    ["expect faults minor=2", "6: minor=2, not minor=1"],
    ["expect counters thp_fault_alloc=2", "6: thp_fault_alloc=2, not thp_fault_alloc=1"],
    [
      "expect counters thp_fault_alloc=1",
      "6: no other change, not nr_anon_transparent_hugepages=1 2048kB/anon_fault_alloc=1 2048kB/nr_anon=1",
    ],
    ["expect knob thp.enabled=never", '6: thp.enabled=never, not "always"'],
    ["unmap R -> EINVAL", "6: EINVAL, not 0"],
    ["protect R[2000..2001] r", "6: success, not ENOMEM"],
    ["write R[2000] -> SIGBUS", "6: SIGBUS, not SIGSEGV"],
  ])("%s", (line, wanted) => {
    expect(findings(`map R 2hp\nwrite R[0]\n${line}\n`)).toEqual([wanted]);
  });
});

test("a failed expectation does not end the run, a failed statement does", () => {
  const found = findings(
    "map R 1hp\nexpect R huge\nexpect R small\nunmap R -> EINVAL\nexpect R huge\n",
  );
  expect(found.map((text) => text[0])).toEqual(["5", "6", "7"]);
});

test("counters and faults count from the mark", () => {
  const lines =
    "map R 2hp\nwrite R[0]\nmark\nexpect counters none\nexpect faults minor=0\nwrite R[512]\n";
  expect(
    findings(
      `${lines}expect counters thp_fault_alloc=1 nr_anon_transparent_hugepages=1 2048kB/anon_fault_alloc=1 2048kB/nr_anon=1\n`,
    ),
  ).toEqual([]);
});

const FORKED = `${HEAD}map R 1hp\nwrite R\nfork C\nC: write R[3]\nunmap R[7]\nC: exit\n`;

/** The model, but for what `change` makes of results and sights after the statement on `line`. */
function altered(
  line: number,
  change: { result?: StepResult; sight?: (seen: Observation) => Observation },
): Backend {
  const model = createModelBackend();
  let at = 0;
  return {
    name: "kernel",
    begin: (header) => model.begin(header),
    step: (statement) => {
      at = statement.line;
      const result = model.step(statement);
      return at === line && change.result ? change.result : result;
    },
    observe: (look) => {
      const seen = model.observe(look);
      return at === line && change.sight ? change.sight(seen) : seen;
    },
    peek: (actor, span) => model.peek(actor, span),
    events: () => [],
    readKnob: (name) => model.readKnob(name),
    end: () => model.end(),
  };
}

function differences(other: Backend): string[] {
  const { findings: found } = runBoth(parseScenario("f", FORKED), createModelBackend(), other);
  const text = ({ line, differences: list }: Finding) =>
    `${line}: ${list.map(({ what, left, right }) => `${what} ${left} ${right}`).join(", ")}`;
  return found.map(text);
}

describe("two back ends are compared after every statement", () => {
  test("equal ones agree", () => {
    expect(differences(altered(0, {}))).toEqual([]);
  });

  test("another result", () => {
    const result = { kind: "value", value: 1 } as const;
    expect(differences(altered(6, { result }))).toEqual(["6: result 0 1"]);
  });

  test("another state of one page in one process", () => {
    const sight = (seen: Observation) => {
      seen.processes[1].ranges[0].pages.mapcount[3] = 5;
      return seen;
    };
    expect(differences(altered(7, { sight }))).toEqual(["7: C: R[3] mapcount 1 5"]);
  });

  test("another counter", () => {
    const sight = (seen: Observation) => ({
      ...seen,
      counters: { ...seen.counters, thp_split_pmd: 9 },
    });
    expect(differences(altered(7, { sight }))).toEqual(["7: counters thp_split_pmd 1 9"]);
  });

  test("a process less", () => {
    const sight = (seen: Observation) => ({ ...seen, processes: seen.processes.slice(0, 1) });
    expect(differences(altered(7, { sight }))).toEqual(["7: processes main C main"]);
  });
});

test("a recording read back equals what was recorded, and shows what differs", () => {
  const scenario = parseScenario("f", FORKED);
  const { steps } = recordScenario(scenario, createModelBackend());
  const read = readRecording("r", writeRecording(steps));
  expect(compareRecordings(steps, read)).toEqual([]);

  const sight = (seen: Observation) => {
    seen.processes[1].ranges[0].pages.mapcount[3] = 5;
    return seen;
  };
  const other = recordScenario(scenario, altered(7, { sight })).steps;
  expect(compareRecordings(steps, other).map(({ line, key }) => `${line} ${key}`)).toEqual([
    "7 C R",
  ]);
  expect(compareRecordings(steps.slice(1), read)[0].key).toBe("statement");
});

test("a text that is no recording is a UsageError", () => {
  expect(() => readRecording("r", "{}\n")).toThrow("r:1: found something else");
  expect(() => readRecording("r", "nothing\n")).toThrow("r:1: found no JSON");
});
