/**
 * MADV_HWPOISON and MADV_SOFT_OFFLINE: memory failure on request.
 *
 * Rules: ANON-284. Lengths are not rounded, and the walk goes on by the size the folio had when it was found.
 */

import { type Addr, PAGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { EBUSY, EFAULT, EHWPOISON, EINVAL, ENOMEM, type Err } from "../base/errno.ts";
import { handleFault, isAccessible, translateToPfn } from "../fault/fault.ts";
import { FAULT_OOM, poisonOf } from "../fault/kinds.ts";
import type { HugeState } from "../huge/knobs.ts";
import type { Mm } from "../mm/state.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { failPage, offlinePage } from "../reclaim/memory-failure.ts";

/** Every page of [start, end), or of one page in each folio: 0 or the first error. */
export function poisonRange(
  m: HugeState,
  mm: Mm,
  start: Addr,
  end: Addr,
  how: "fail" | "offline",
): Err {
  if (!m.poison.isSupported) return -EINVAL;
  for (let addr = start; addr < end; ) {
    const pfn = pageAt(m, mm, addr);
    if (pfn < 0) return pfn;
    const head = headOf(m.frames, pfn);
    if ((m.frames.flags[head] & PG.ZERO) !== 0) return -EBUSY;
    const size = PAGE_SIZE << m.frames.order[head];
    const result = how === "fail" ? failPage(m, pfn, mm.id) : offlinePage(m, pfn);
    if (result !== 0) return result;
    addr += size;
  }
  return 0;
}

/** The frame at `addr`, faulted in for reading if needed, or a negative errno. */
function pageAt(m: HugeState, mm: Mm, addr: Addr): number {
  const [region, pteIndex] = [regionOf(addr), pteIndexOf(addr)];
  if (!isAccessible(m, mm, region, pteIndex, "read")) {
    const result = handleFault(m, mm, region, pteIndex, "read");
    if (poisonOf(result) !== null) return -EHWPOISON;
    if (result < 0) return result === FAULT_OOM ? -ENOMEM : -EFAULT;
  }
  return translateToPfn(m, mm, region, pteIndex);
}
