/**
 * How much slower programs run under the recorder: CPU time recorded / CPU time alone, medians of interleaved runs.
 *
 * Usage: node scripts/recorder-cost.mjs [RUNS]     (after npm run build; default 3 runs)
 * CPU time, not wall time, so that other work on the machine disturbs less. The launcher and the writing of the file,
 * which run beside the program, are not counted.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const runs = Number(process.argv[2] ?? 3);
const cli = process.env.HUGELAB ?? "dist/hugelab.mjs";
const folder = mkdtempSync(join(tmpdir(), "hugelab-cost-"));

/** Five million bytes of words, the same each time. */
function someText() {
  let seed = 1;
  const next = (n) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  const word = () => Array.from({ length: 2 + next(8) }, () => String.fromCharCode(97 + next(26)));
  const words = Array.from({ length: 5000 }, () => word().join(""));
  let text = "";
  while (text.length < 5e6) text += `${words[next(5000)]} `;
  return text;
}

const DICTIONARY = `
d = {}
for i in range(1000000): d["k%d" % i] = [i, str(i)]
print(sum(v[0] for v in d.values()))
`;

const LOAD = `
until redis-cli -p 7797 ping; do sleep 0.1; done
redis-benchmark -p 7797 -q -t set,get -n 150000 -r 100000 -d 300 -P 16 -c 8
redis-cli -p 7797 shutdown nosave
`;

writeFileSync(join(folder, "text"), someText());
writeFileSync(join(folder, "dict.py"), DICTIONARY);
const redis = "redis-server --port 7797 --bind 127.0.0.1 --save '' --disable-thp no";
const python = spawnSync("python3", ["-c", "import sys; print(sys.executable)"], {
  encoding: "utf8",
}).stdout.trim();
const qemu = spawnSync("sh", ["-c", "command -v qemu-x86_64"], { encoding: "utf8" }).stdout.trim();
const programs = [
  { name: "gzip of 5 MB", command: "gzip -kfc text" },
  { name: "python3, 1 M keys", command: `${python} dict.py` },
  { name: "redis-server", command: redis, driver: LOAD },
];

/** User and system seconds of the program itself, as its shell's times sees them. */
function cpuSeconds(program, isRecorded) {
  const wrapper = join(folder, "qemu-x86_64");
  const times = join(folder, "times");
  rmSync(times, { force: true });
  const timed = (path) => `#!/bin/bash\nTIMEFORMAT='%U %S'\n{ time ${path} ; } 2>>${times}\n`;
  if (isRecorded) {
    writeFileSync(wrapper, timed(`${qemu} "$@" 2>/dev/null`), { mode: 0o755 });
    const driver = program.driver ? ["--driver", program.driver] : [];
    const words = ["record", "-o", "r.hlt", "--no-plain-run", ...driver, "--", "sh", "-c"];
    const env = { ...process.env, PATH: `${folder}:${process.env.PATH}` };
    spawnSync("node", [cli, ...words.slice(0, -2), ...shellWords(program.command)], {
      cwd: folder,
      env,
    });
  } else {
    const script = join(folder, "alone");
    const load = program.driver ? `( ${program.driver} ) >/dev/null 2>&1 &` : "";
    writeFileSync(
      script,
      timed(`${program.command} >/dev/null 2>/dev/null`).replace("{ time", `${load}\n{ time`),
      { mode: 0o755 },
    );
    spawnSync(script, { cwd: folder });
  }
  const last = readFileSync(times, "utf8").trim().split("\n").at(-1);
  return last.split(" ").reduce((sum, word) => sum + Number(word), 0);
}

function shellWords(command) {
  return command.match(/'[^']*'|\S+/g).map((word) => word.replace(/^'|'$/g, ""));
}

const median = (list) => list.slice().sort((a, b) => a - b)[Math.floor(list.length / 2)];

for (const program of programs) {
  const alone = [];
  const recorded = [];
  for (let i = 0; i < runs; i++) {
    alone.push(cpuSeconds(program, false));
    recorded.push(cpuSeconds(program, true));
  }
  const [a, r] = [median(alone), median(recorded)];
  const line = `${a.toFixed(2)} s alone, ${r.toFixed(2)} s recorded, ${(r / a).toFixed(1)}x`;
  process.stdout.write(`${program.name.padEnd(20)} ${line}\n`);
}
rmSync(folder, { recursive: true, force: true });
