import { defineConfig } from "vitest/config";

// "unit" is pure and quick; "scripts" holds the project's own checks; "command" builds and runs the command-line tool;
// "live" needs root on Linux and compares with the running kernel, one file at a time because the kernel's knobs and
// counters are global.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts"],
          exclude: ["src/**/*.command.test.ts", "src/**/*.live.test.ts"],
          testTimeout: 20_000,
          // The engine has no module-level state (the tidy check holds it), so files may share their modules.
          isolate: false,
        },
      },
      { test: { name: "scripts", include: ["scripts/**/*.test.mjs"] } },
      { test: { name: "command", include: ["src/**/*.command.test.ts"], testTimeout: 120_000 } },
      {
        test: {
          name: "live",
          include: ["src/**/*.live.test.ts"],
          fileParallelism: false,
          testTimeout: 120_000,
        },
      },
    ],
  },
});
