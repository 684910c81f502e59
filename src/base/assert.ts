/**
 * Assertions: our own defects, never the modelled program's failures and never the user's mistakes.
 *
 * Always on. The message is a constant so that a passing assertion costs a compare.
 */

/** A defect of hugelab itself; the outermost run prints it with seed and step and exits 4. */
export class AssertionFailure extends Error {
  override readonly name = "AssertionFailure";
}

/** Throws AssertionFailure unless `condition` holds. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) fail(message);
}

/** Throws AssertionFailure; for branches that cannot be reached. */
export function fail(message: string): never {
  throw new AssertionFailure(message);
}
