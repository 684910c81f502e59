/**
 * How long a recording is, from the last bytes of its file: so that a replay knows before its first record what a tick is worth.
 *
 * Entry: endTickOf. Units: ticks. Says nothing for certain: what it reads is checked by checksums, the reader checks the rest.
 */

import { ColumnReader } from "./column.ts";
import { crc32 } from "./crc32.ts";
import { BLOCK_END, BLOCK_HEADER_SIZE, BLOCK_TRAILER_SIZE } from "./format.ts";

/** An end block holds three numbers of at most eight bytes each. */
const MOST_STORED = 3 * 8;
/** How much of a file's end is enough. */
export const END_BLOCK_BYTES = BLOCK_HEADER_SIZE + MOST_STORED + BLOCK_TRAILER_SIZE;

/** The tick of the end of a recording whose file ends with `tail`; null if that is no end block, stored as it is. */
export function endTickOf(tail: Uint8Array): number | null {
  for (let stored = 3; stored <= MOST_STORED; stored++) {
    const start = tail.length - BLOCK_HEADER_SIZE - stored - BLOCK_TRAILER_SIZE;
    if (start >= 0 && isEndBlock(tail, start, stored)) {
      const totals = new ColumnReader("totals");
      totals.open(tail, start + BLOCK_HEADER_SIZE, start + BLOCK_HEADER_SIZE + stored);
      return totals.unsigned();
    }
  }
  return null;
}

function isEndBlock(bytes: Uint8Array, start: number, stored: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset + start);
  const end = start + BLOCK_HEADER_SIZE + stored;
  return (
    bytes[start] === BLOCK_END &&
    bytes[start + 1] === 0 &&
    view.getUint32(8, true) === stored &&
    view.getUint32(16, true) === crc32(bytes, start, start + 16) &&
    view.getUint32(BLOCK_HEADER_SIZE + stored, true) === crc32(bytes, end - stored, end)
  );
}
