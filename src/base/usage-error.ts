/**
 * The user's mistakes: a flag, a knob, a trace, a scenario. The command line prints one line and exits 2.
 */

/** Where it is, what was found, what was wanted: together one line for the user. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly where: string;
  readonly found: string;
  readonly wanted: string;

  constructor(where: string, found: string, wanted: string) {
    super(`${where}: found ${found}, expected ${wanted}`);
    this.where = where;
    this.found = found;
    this.wanted = wanted;
  }
}
