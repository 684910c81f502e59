/**
 * Numbers of the recording format: magic, versions, limits, block kinds, operation codes and columns.
 *
 * docs/trace-format.md says what they mean byte by byte; the encoder and the decoder say it in code.
 *
 * Owns:  constants and the codec port; no state.
 * Units: sizes in bytes; pages are 4 KiB.
 */

/** First eight bytes of a recording. The line ends notice a transfer in text mode. */
export const MAGIC: readonly number[] = [0x89, 0x48, 0x4c, 0x54, 0x0d, 0x0a, 0x1a, 0x0a];
/** A reader refuses another major version; a minor version only adds skippable blocks. */
export const MAJOR_VERSION = 1;
export const MINOR_VERSION = 0;

/** Magic, major u16, minor u16, CRC-32 of those 12 bytes u32; little-endian as all else. */
export const FILE_HEADER_SIZE = 16;
/** Kind u8, codec u8, zero u16, sequence u32, stored size u32, raw size u32, CRC-32 of those 16 bytes. */
export const BLOCK_HEADER_SIZE = 20;
/** CRC-32 of the stored bytes, behind them. */
export const BLOCK_TRAILER_SIZE = 4;

/** Block kinds. A kind with bit 0x20 (a small letter) may be skipped by a reader that does not know it. */
export const BLOCK_HEADER = 0x48;
export const BLOCK_RECORDS = 0x52;
export const BLOCK_END = 0x45;
export const SKIPPABLE_KIND_BIT = 0x20;

/** Codec numbers as they stand in block headers; BlockCodec.name gives the word. */
export const CODEC_NUMBERS = { none: 0, deflate: 1 } as const;
export type CodecName = keyof typeof CODEC_NUMBERS;

/**
 * Port: compression of one block. The implementation is in cli/ (zlib) or web/.
 * `decompress` gives exactly `size` bytes, or undefined if the bytes are damaged or would give another size; it must not
 * allocate more than `size` for the result.
 */
export interface BlockCodec {
  readonly name: CodecName;
  compress(bytes: Uint8Array): Uint8Array;
  decompress(bytes: Uint8Array, size: number): Uint8Array | undefined;
}

/** The codec that stores blocks as they are; every reader has it. */
export const STORED_CODEC: BlockCodec = {
  name: "none",
  compress: (bytes) => bytes,
  decompress: (bytes, size) => (bytes.length === size ? bytes : undefined),
};

/** Limits: a writer stays within them, a reader refuses what exceeds them. */
export const LIMITS = {
  /** Bytes of a block, stored and raw. */
  blockSize: 8 * 1024 * 1024,
  /** Records of one block. */
  blockRecords: 1 << 17,
  /** Bytes of the cold column at which a writer closes a block. */
  coldBytes: 1 << 19,
  /** Mappings of a recording. */
  mappings: 1 << 21,
  /** Pairs of a live process and a mapping it knows, at one time. */
  processMappings: 1 << 22,
  /** Processes of a recording. */
  processes: 1 << 17,
  /** Thread ids are below this. */
  threads: 1 << 20,
  /** Pages of a mapping: the 47-bit user half. */
  mappingPages: 2 ** 35,
  /** Different file paths of a recording. */
  paths: 1 << 16,
  /** UTF-8 bytes of one path. */
  pathBytes: 1 << 14,
} as const;

/** Operation codes of cold records; their fields are in the cold column. */
export const OP = {
  time: 0x00,
  setThread: 0x01,
  setProcess: 0x02,
  process: 0x03,
  exec: 0x04,
  thread: 0x05,
  threadExit: 0x06,
  exit: 0x07,
  map: 0x08,
  unmap: 0x09,
  protect: 0x0a,
  remap: 0x0b,
  brk: 0x0c,
  advise: 0x0d,
  lock: 0x0e,
  prctlThpDisable: 0x0f,
  windowBegin: 0x10,
  windowEnd: 0x11,
  /** An access outside the slots; flags below. */
  access: 0x40,
  /** Counts of a run of pages; flags below. */
  counts: 0x50,
  /** A first read or write; flags below. */
  touch: 0x60,
  /** An access to the page of slot (op >> 1) & 63; bit 0: it writes. */
  slot: 0x80,
} as const;

export const ACCESS_WRITES = 1;
export const ACCESS_NEW_MAPPING = 2;

export const COUNTS_NEW_MAPPING = 1;
export const COUNTS_HAS_GAP = 2;
export const COUNTS_HAS_LENGTH = 4;
/** Reads and writes differ from those of the counts record before. */
export const COUNTS_HAS_VALUES = 8;

export const TOUCH_WRITES = 1;
export const TOUCH_NEW_MAPPING = 2;
export const TOUCH_HAS_GAP = 4;
export const TOUCH_HAS_LENGTH = 8;

/** Columns of a records block, in their order in the block. */
export const COLUMN_NAMES = [
  "ops",
  "cold",
  "time",
  "thread",
  "touchMapping",
  "touchGap",
  "touchLength",
  "countsMapping",
  "countsGap",
  "countsLength",
  "countsReads",
  "countsWrites",
  "accessMapping",
  "accessStep",
  "accessCount",
] as const;

export type ColumnName = (typeof COLUMN_NAMES)[number];
export const NR_COLUMNS = COLUMN_NAMES.length;

/** Recently accessed pages that have a one-byte code. */
export const NR_SLOTS = 64;

/** The one slot a page can be in. */
export function slotOf(mapping: number, page: number): number {
  return (mapping * 13 + page) & (NR_SLOTS - 1);
}

/** Words whose number in the file is their place here. */
export const PROCESS_STARTS = ["exec", "fork", "vfork"] as const;
export const BACKING_KINDS = ["anonymous", "stack", "heap", "file"] as const;
export const PLACEMENT_KINDS = ["any", "hint", "at", "image"] as const;
export const MAP_FLAGS = ["populate", "locked", "stack", "noreserve"] as const;
export const LOCK_KINDS = ["lock", "onFault", "unlock"] as const;
