/**
 * Names for files that are no recording, by their first bytes, so that a message can say what was given.
 */

/** First bytes (as Latin-1 text) and what a file that starts so is. */
const BEGINNINGS: readonly (readonly [string, string])[] = [
  ["\x1f\x8b", "gzip data"],
  ["\x28\xb5\x2f\xfd", "zstd data"],
  ["\xfd7zXZ", "xz data"],
  ["BZh", "bzip2 data"],
  ["PK\x03\x04", "a zip archive"],
  ["\x7fELF", "a program (ELF)"],
  ["PERFILE2", "perf.data (import the text of perf script)"],
  ["#!", "a script"],
  ["==", "text that looks like valgrind's (import it as lackey)"],
];

/** What a file that begins with `bytes` seems to be; for messages only. */
export function foreignFormat(bytes: Uint8Array): string {
  const text = String.fromCharCode(...bytes.subarray(0, 16));
  for (const [beginning, name] of BEGINNINGS) {
    if (text.startsWith(beginning)) return name;
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what tells binary from text
  if (!/[\x00-\x08\x0e-\x1f\x7f-\xff]/.test(text)) return `text beginning ${JSON.stringify(text)}`;
  const first = [...bytes.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, "0"));
  return `other data beginning ${first.join(" ")}`;
}
