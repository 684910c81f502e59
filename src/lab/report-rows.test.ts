import { expect, test } from "vitest";
import { shellWords } from "./report-rows.ts";

test("a command is one line that a shell would read back", () => {
  expect(shellWords(["redis-server", "--port", "7777", "--save="])).toBe(
    "redis-server --port 7777 --save=",
  );
  expect(shellWords(["sh", "-c", "echo 'a b'"])).toBe("sh -c 'echo '\\''a b'\\'''");
  expect(shellWords(["python3", "-c", "a='x'\nb=1\t\x1b"])).toBe(
    "python3 -c $'a=\\'x\\'\\nb=1\\x09\\x1b'",
  );
  expect(shellWords(["true", ""])).toBe("true ''");
});
