/**
 * What this host cannot do: a tool that is not installed, a permission, a kernel without the feature. The command line
 * prints one line and exits 3.
 */

/** What was tried, why it cannot be done here, and what would make it possible: together one line for the user. */
export class NotPossibleHere extends Error {
  override readonly name = "NotPossibleHere";
  /** Exit status of the command. */
  readonly exitCode = 3;
  readonly remedy: string;

  constructor(problem: string, remedy: string) {
    super(`${problem}; ${remedy}`);
    this.remedy = remedy;
  }
}
