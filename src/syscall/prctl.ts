/**
 * prctl(PR_SET_THP_DISABLE) and its query (ANON-030..033).
 */

import { EINVAL, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { enterMm } from "../mm/mmap-lock.ts";
import type { Mm } from "../mm/state.ts";

/** Third argument: VMAs with MADV_HUGEPAGE stay permitted. */
export const PR_THP_DISABLE_EXCEPT_ADVISED = 2;

/** 0 or -EINVAL. Existing huge mappings stay (ANON-033). */
export function sysSetThpDisable(
  m: HugeState,
  mm: Mm,
  value: number,
  flags: number,
  arg4 = 0,
  arg5 = 0,
): Err {
  const isKnownFlag =
    flags === 0 || (flags === PR_THP_DISABLE_EXCEPT_ADVISED && m.profile.prctlExceptAdvised);
  if (!isKnownFlag || (value === 0 && flags !== 0) || arg4 !== 0 || arg5 !== 0) return -EINVAL;
  enterMm(m, mm, "write");
  if (value === 0) mm.thpDisable = "no";
  else mm.thpDisable = flags === PR_THP_DISABLE_EXCEPT_ADVISED ? "exceptAdvised" : "all";
  return 0;
}

/** 0, 1, or 3 with the exception for advised VMAs; -EINVAL for any argument that is not 0. */
export function sysGetThpDisable(mm: Mm, arg2 = 0, arg3 = 0, arg4 = 0, arg5 = 0): number | Err {
  if (arg2 !== 0 || arg3 !== 0 || arg4 !== 0 || arg5 !== 0) return -EINVAL;
  if (mm.thpDisable === "no") return 0;
  return mm.thpDisable === "all" ? 1 : 1 | PR_THP_DISABLE_EXCEPT_ADVISED;
}
