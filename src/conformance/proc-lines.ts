/**
 * Texts of /proc cut and masked so that two machines' can be compared: the lines of the window, fields that never repeat
 * blanked, widths kept.
 *
 * Entry: windowBlocks, shapeOf, fieldOf.
 */

import { WINDOW_END, WINDOW_START } from "./steps.ts";

const HEADER = /^([0-9a-f]+)-[0-9a-f]+ /;

/**
 * The blocks of maps or smaps that lie in the window. Referenced is blanked, because others clear accessed bits, and so are
 * device and inode of a file.
 */
export function windowBlocks(text: string): string[] {
  const blocks: string[] = [];
  let isInside = false;
  for (const line of text.split("\n").slice(0, -1)) {
    const start = HEADER.exec(line)?.[1];
    if (start === undefined) {
      if (isInside) blocks[blocks.length - 1] += `${maskReferenced(line)}\n`;
      continue;
    }
    const address = Number.parseInt(start, 16);
    isInside = address >= WINDOW_START && address < WINDOW_END;
    if (isInside) blocks.push(`${maskFile(line)}\n`);
  }
  return blocks;
}

/** Every number blanked together with the blanks before it: what is left are names, order and separators. */
export function shapeOf(text: string): string {
  return text.replace(/-?[ \t]*\b(?:0x)?[0-9a-f]*\d[0-9a-f]*\b/g, "#");
}

/** The number of a line "NAME: N" or "NAME N". */
export function fieldOf(text: string, name: string): number {
  const match = new RegExp(`^${name}:?\\s+(\\d+)`, "m").exec(text);
  if (match === null) throw new Error(`no line ${name}`);
  return Number(match[1]);
}

function maskReferenced(line: string): string {
  return /^Referenced: +\d+ kB$/.test(line) && line.length === 27 ? "Referenced: ? kB" : line;
}

/** A mapping of an object: MAJ:MIN and inode differ, and with them the place of the name. */
function maskFile(line: string): string {
  const match = /^(\S+ \S+ \S+) \S+ (\d+) +(\/.*)$/.exec(line);
  return match === null ? line : `${match[1]} file ${match[3]}`;
}
