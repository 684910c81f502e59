/**
 * The user's mistakes: a flag, a knob, a trace, a scenario. The command line prints one line and exits 2.
 */

/** The text in which the mistake stands and the column (from 0) where it begins, for a caret under it. */
export interface Excerpt {
  readonly text: string;
  readonly column: number;
}

/** Where it is, what was found, what was wanted: together one line for the user. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly where: string;
  readonly found: string;
  readonly wanted: string;
  readonly excerpt: Excerpt | undefined;

  constructor(where: string, found: string, wanted: string, excerpt?: Excerpt) {
    super(`${where}: found ${found}, expected ${wanted}`);
    this.where = where;
    this.found = found;
    this.wanted = wanted;
    this.excerpt = excerpt;
  }
}
