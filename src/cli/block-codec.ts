/**
 * Compression of recording blocks by zlib: the implementation of trace/'s BlockCodec port for Node.
 */

import { deflateRawSync, inflateRawSync } from "node:zlib";
import type { BlockCodec } from "../trace/format.ts";

/** Raw deflate (RFC 1951). Level 9 is 2 to 4 times slower than 6 on counts and about 1 % smaller. */
export const DEFLATE_CODEC: BlockCodec = {
  name: "deflate",
  compress: (bytes) => deflateRawSync(bytes, { level: 6, memLevel: 9 }),
  decompress(bytes, size) {
    try {
      const raw = inflateRawSync(bytes, { maxOutputLength: Math.max(1, size) });
      return raw.length === size ? raw : undefined;
    } catch {
      return undefined;
    }
  },
};
