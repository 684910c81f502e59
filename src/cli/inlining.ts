/**
 * How much V8 may inline into one function.
 *
 * Entry: inlineHotPaths, called before any engine code has run often enough to be compiled.
 *
 * The engine is many small functions, and V8 stops inlining at 920 bytes of bytecode a function: a TLB miss alone then
 * makes ten calls. With five times that, the same code (docs/decisions/0012-code-for-the-compiler.md has the figures) takes a
 * random 4K page through TLB and walk in three quarters of the time, and a copy-on-write fault in four fifths.
 */

import { setFlagsFromString } from "node:v8";

/** Bytes of bytecode inlined into one function. */
const INLINED_BYTES = 4500;

export function inlineHotPaths(): void {
  setFlagsFromString(`--max-inlined-bytecode-size-cumulative=${INLINED_BYTES}`);
}
