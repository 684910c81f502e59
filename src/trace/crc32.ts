/**
 * CRC-32 (polynomial 0xEDB88320 reflected, as in gzip and PNG), four bytes a step by four tables.
 */

const TABLES = buildTables();

/** CRC-32 of bytes[start..end), 0..2^32-1. */
export function crc32(bytes: Uint8Array, start: number, end: number): number {
  let crc = -1;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    crc ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    crc =
      TABLES[768 + (crc & 255)] ^
      TABLES[512 + ((crc >>> 8) & 255)] ^
      TABLES[256 + ((crc >>> 16) & 255)] ^
      TABLES[crc >>> 24];
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ TABLES[(crc ^ bytes[at]) & 255];
  return ~crc >>> 0;
}

/** Row t (256 entries): the CRC of a byte followed by t zero bytes. */
function buildTables(): Int32Array {
  const tables = new Int32Array(1024);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    tables[byte] = crc;
  }
  for (let i = 256; i < 1024; i++) {
    tables[i] = (tables[i - 256] >>> 8) ^ tables[tables[i - 256] & 255];
  }
  return tables;
}
