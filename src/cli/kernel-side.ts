/**
 * The live kernel as a back end, where there is one.
 */

import type { Backend } from "../scenario/backend.ts";
import { NotPossibleHere } from "./not-possible.ts";

/** Throws NotPossibleHere with the reason. */
export function kernelBackend(): Backend {
  throw new NotPossibleHere("scenarios cannot run on the kernel yet", "use --on model");
}
