/**
 * mseal(2): the VMAs of a range can no longer be unmapped, moved or given other rights (ANON-275).
 *
 * The refusals stand where the changes are made: mm/mmap.ts, mm/mprotect.ts, mm/mremap.ts, syscall/madvise.ts.
 */

import { type Addr, alignUp, isAligned, PAGE_SIZE } from "../base/address.ts";
import { EINVAL, ENOMEM, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { isRangeMapped } from "../mm/mmap.ts";
import { enterMm } from "../mm/mmap-lock.ts";
import type { Mm } from "../mm/state.ts";
import { findVma, VM } from "../mm/vma.ts";
import { changeVmaFlags } from "../mm/vma-edit.ts";

const ADDRESS_SPACE = 2 ** 64;

/** 0, -EINVAL, or -ENOMEM with nothing sealed if the range has a hole. There are no flags yet: they must be 0. */
export function sysMseal(m: HugeState, mm: Mm, address: Addr, length: number, flags = 0): Err {
  if (flags !== 0 || !isAligned(address, PAGE_SIZE)) return -EINVAL;
  const end = address + alignUp(length, PAGE_SIZE);
  if (end >= ADDRESS_SPACE) return -EINVAL;
  enterMm(m, mm, "write");
  if (!isRangeMapped(mm, address, end)) return -ENOMEM;
  for (let at = address; at < end; ) {
    const vma = findVma(mm.vmas, at)!;
    const stop = Math.min(end, vma.end);
    const failed = changeVmaFlags(m, mm, vma, at, stop, vma.flags | VM.SEALED);
    if (failed !== 0) return failed;
    at = stop;
  }
  return 0;
}
