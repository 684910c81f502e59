/**
 * Built-in cost tables, by CPU. `calibrate` makes others of the same shape for the host at hand.
 *
 * Owns:  data only.
 * Units: nanoseconds per event. A source "PHYS-x" is a measurement in docs/rules/physical.md; "PHYS-x less PHYS-y" says how
 *        a figure was taken out of a compound one; "estimate" says that nothing was measured.
 */

import { COST_NAMES, type CostFigure, type CostName, type CostTable } from "./cost-model.ts";

function ns(value: number, source: string): CostFigure {
  return { ns: value, source };
}

function us(value: number, source: string): CostFigure {
  return { ns: value * 1000, source };
}

const VIRTUAL_CALL = "median of 2000 calls, Zen 3 vCPU, 6.18, nested paging";

const KHUGEPAGED_CPU = "CPU time of khugepaged, least of 6 runs, Zen 3 vCPU, 6.18, host busy";

const ZEN4_FIGURES: Readonly<Record<CostName, CostFigure>> = {
  faultAnon: us(1.37, "PHYS-180"),
  faultZero: us(0.6, "PHYS-181"),
  faultReuse: us(0.72, "PHYS-182, middle of 0.65 and 0.8"),
  faultCow: us(1.8, "PHYS-183"),
  faultSpurious: us(0.5, "PHYS-209"),
  faultHuge: us(1.3, "PHYS-186: the same path without clearing"),
  faultHugeZero: us(1.3, "PHYS-186"),
  faultHugeReuse: us(0.74, "estimate: as PHYS-182"),
  faultLarge: us(1.3, "estimate: as PHYS-186"),
  faultFile: us(0.6, "estimate: as PHYS-181, the other fault that allocates nothing"),
  faultFileAround: ns(15, "PHYS-209: one step of a batch"),
  faultShmem: us(3.1, "median of 10000 faults, Zen 3 vCPU, 6.18, nested paging"),
  faultShmemHuge: us(2.9, "PHYS-188"),
  clearHuge: us(168.7, "PHYS-184 less PHYS-186; host memory already backed"),
  clearLargePage: us(0.48, "PHYS-187: (9.0 us - 1.3 us) / 16 pages"),
  copyHuge: us(242, "clearHuge and the 73 us between copy and clear of PHYS-189"),
  faultSwapIn: us(5.1, "PHYS-206, zram"),
  swapOutPage: us(3.6, "PHYS-205, zram"),
  swapOutHuge: us(310, "PHYS-204, zram, compressible"),
  readFilePage: us(25, "estimate: 4 KiB of a read-ahead window, NVMe"),
  syscall: us(0.2, VIRTUAL_CALL),
  mmap: us(1.6, VIRTUAL_CALL),
  munmap: us(2.6, VIRTUAL_CALL),
  mprotect: us(0.9, "PHYS-194: a huge page and an empty range differ by its zap"),
  mprotectPte: ns(86, "PHYS-194: (45 us - 0.9 us) / 512"),
  mprotectHuge: us(1.5, "PHYS-194 less the call"),
  mremap: us(1.2, "estimate: as mmap, no new mapping object"),
  movePte: ns(20, "2 MiB of 4K pages moved, Zen 3 vCPU, 6.18: 11 us"),
  moveHuge: us(1, "estimate: lock, move, flush"),
  brk: us(1.1, VIRTUAL_CALL),
  madvise: us(0.6, VIRTUAL_CALL),
  unmapPage: us(0.22, "PHYS-191, munmap"),
  unmapHuge: us(6, "PHYS-190, MADV_DONTNEED less the call's 0.6 us, rounded up"),
  zapPte: ns(15, "64 MiB file mapping unmapped, Zen 3 vCPU, 6.18: 16000 entries in 0.23 ms"),
  lazyFreePage: ns(90, "estimate: as PHYS-194 per entry"),
  lazyFreeHuge: us(2.7, "PHYS-196 less the call"),
  splitPmd: us(10, "PHYS-192, PHYS-193, PHYS-203 less the call or the copied page"),
  splitFolioPage: ns(275, "PHYS-195 less splitPmd and the call, / 512"),
  fork: us(55, "PHYS-201, PHYS-202 extrapolated to no pages; exit and wait included"),
  forkPte: ns(13, "PHYS-201"),
  forkHuge: us(0.5, "PHYS-202: half of 1.05 us per THP, the other half is the child's exit"),
  exec: us(800, "vfork, exec of a small dynamic program and wait, Zen 3 vCPU: 1 ms"),
  unmapShared: ns(38, "PHYS-201: 51 ns per page less forkPte"),
  unmapSharedHuge: us(0.55, "PHYS-202: 1.05 us per THP less forkHuge"),
  scanPte: ns(55, `4K pages of 400 MiB, one folio each, none in the cache: ${KHUGEPAGED_CPU}`),
  collapse: us(99.4, "PHYS-198 less one collapsePage"),
  collapsePage: us(0.61, "PHYS-197 less PHYS-198, / 511"),
  scanPass: us(97, `laps over huge regions only, 2 CPUs: ${KHUGEPAGED_CPU}`),
  migratePage: us(1.5, "estimate: a copy-on-write fault less its entry"),
  reclaimPage: us(0.4, "estimate: unmapPage and an LRU scan"),
  flushLocal: us(0.2, "estimate: INVLPG or a CR3 write"),
  shootdown: us(2, "PHYS-209: 1-4 us per other CPU"),
  cycle: ns(0.27, "3.7 GHz"),
  l2TlbHit: ns(1, "7-8 cycles, half of them hidden; docs/hardware-model.md"),
};

const ZEN4_VM: CostTable = {
  schema: "hugelab.costs",
  version: 1,
  name: "zen4-vm",
  description:
    "AMD EPYC (Zen 4) vCPU, nested paging, Linux 6.18; medians of docs/rules/physical.md",
  figures: ZEN4_FIGURES,
  latencies: {
    memoryNs: ns(150, "PHYS-208, 2M pages, 64-128 MB; the neighbours share the cache"),
  },
  hardware: {},
};

/** A bare-metal server: what is not given here is the virtual machine's figure without its second dimension. */
const GENERIC_FIGURES: Readonly<Partial<Record<CostName, CostFigure>>> = {
  faultAnon: us(0.8, "estimate: PHYS-180 without nested paging"),
  faultCow: us(1.1, "estimate: PHYS-183 without nested paging"),
  faultSpurious: us(0.35, "estimate: PHYS-209 without nested paging"),
  clearHuge: us(90, "PHYS-209: clear 2 MiB is 60-170 us"),
  copyHuge: us(180, "PHYS-209: copy 2 MiB is 130-400 us"),
  readFilePage: us(25, "estimate: 4 KiB of a read-ahead window, NVMe"),
  shootdown: us(1.5, "PHYS-209, without exits to a hypervisor"),
  cycle: ns(1 / 3, "3 GHz"),
  l2TlbHit: ns(1.2, "7-8 cycles at 3 GHz, half of them hidden"),
};

const NATIVE_SHARE = 0.7;

const GENERIC: CostTable = {
  schema: "hugelab.costs",
  version: 1,
  name: "generic-x86-64",
  description: "x86-64 server without virtualisation; estimates from zen4-vm and PHYS-209",
  figures: Object.fromEntries(
    COST_NAMES.map((name) => [name, GENERIC_FIGURES[name] ?? withoutNesting(ZEN4_FIGURES[name])]),
  ) as Record<CostName, CostFigure>,
  latencies: {},
  hardware: {},
};

function withoutNesting(figure: CostFigure): CostFigure {
  return {
    ns: figure.ns * NATIVE_SHARE,
    source: `estimate: ${NATIVE_SHARE} of zen4-vm (${figure.source})`,
  };
}

/** All built-in tables; the first is the default. */
export const COST_TABLES: readonly CostTable[] = [ZEN4_VM, GENERIC];

/** The built-in table for a CPU: `isVirtual` as /proc/cpuinfo's "hypervisor" flag says. Pure. */
export function builtInCosts(machine: { readonly isVirtual: boolean }): CostTable {
  return machine.isVirtual ? ZEN4_VM : GENERIC;
}
