/**
 * Sizes of x86-64 pages and the way a user address is taken apart.
 *
 * Owns:  the constants; no state.
 * Units: an `Addr` is a byte address below 2^47 held in a double; `region` is the index of an aligned 2 MiB range
 *        (26 bits), `pteIndex` a page of it (0..511), `page` a page number (35 bits, so never shifted or masked).
 */

/** A byte address or a byte length: an integer below 2^53, never used with shifts. */
export type Addr = number;
/** Page frame number. */
export type Pfn = number;

export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;
/** Order of a PMD-sized folio. */
export const HUGE_ORDER = 9;
export const HUGE_SIZE = 2 * 1024 * 1024;
export const PTES_PER_REGION = 512;
/** Regions that one PMD table (1 GiB), one PUD table (512 GiB) and the whole user half cover. */
export const REGIONS_PER_PMD_TABLE = 512;
/** First address above user space as mmap sees it: the last page of the user half is a guard. */
export const TASK_SIZE: Addr = 2 ** 47 - PAGE_SIZE;

/** Which aligned 2 MiB of the address space. */
export function regionOf(addr: Addr): number {
  return Math.floor(addr / HUGE_SIZE);
}

/** Which page of its region, 0..511. */
export function pteIndexOf(addr: Addr): number {
  return (addr - regionOf(addr) * HUGE_SIZE) >>> PAGE_SHIFT;
}

/** Byte address of a page of a region. */
export function addrOf(region: number, pteIndex: number): Addr {
  return region * HUGE_SIZE + pteIndex * PAGE_SIZE;
}

/** Page number of an address. */
export function pageOf(addr: Addr): number {
  return Math.floor(addr / PAGE_SIZE);
}

/** True if `addr` is a multiple of `size` (bytes, any size). */
export function isAligned(addr: Addr, size: number): boolean {
  return addr % size === 0;
}

/** Largest multiple of `size` that is not above `addr`. */
export function alignDown(addr: Addr, size: number): Addr {
  return addr - (addr % size);
}

/** Smallest multiple of `size` that is not below `addr`. */
export function alignUp(addr: Addr, size: number): Addr {
  return alignDown(addr + size - 1, size);
}
