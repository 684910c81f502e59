/**
 * Geometries of real cores, and the choice of one from what /proc/cpuinfo says.
 *
 * Entry: GEOMETRIES, geometryByName, geometryForCpu.
 * Owns:  data only. TLB sizes are those of PHYS-172; what vendors do not publish (walk caches, nested TLB, overlap) is a
 *        model parameter, named as such in docs/hardware-model.md.
 */

import { UsageError } from "../base/usage-error.ts";
import type { CacheShape, Geometry, TlbLevel, TlbShape } from "./geometry.ts";
import type { HostPage } from "./host-walk.ts";
import type { TranslationMode } from "./translate.ts";

const KB = 1024;
const MB = 1024 * 1024;

function tlb(nrEntries: number, nrWays: number): TlbShape {
  return { nrEntries, nrWays };
}

function full(nrEntries: number): TlbShape {
  return { nrEntries, nrWays: nrEntries };
}

function split(small: TlbShape, huge: TlbShape): TlbLevel {
  return { kind: "split", small, huge };
}

function shared(both: TlbShape): TlbLevel {
  return { kind: "shared", both };
}

function cache(sizeBytes: number, nrWays: number, cycles: number): CacheShape {
  return { sizeBytes, nrWays, cycles };
}

const INTEL_WALK_CACHES = { pgd: full(2), pud: full(4), pmd: tlb(32, 4) };
const AMD_WALK_CACHES = { pgd: full(4), pud: tlb(16, 4), pmd: tlb(64, 4) };
const ARM_WALK_CACHES = { pgd: full(4), pud: full(8), pmd: tlb(32, 4) };
const NESTED_TLB = full(32);
/** Fitted, with walkStartCycles, to dependent reads in a Zen 3 guest: docs/hardware-model.md. */
const AMD_NESTED_TLB = full(16);

const INTEL_SOURCE =
  "TLBs: PHYS-172 (Intel optimization manual); caches: the same manual, last level rounded to a power of two of sets; " +
  "walk caches, nested TLB and overlap: model parameters";
const AMD_SOURCE =
  "TLBs: PHYS-172 (AMD software optimization guides), ways of the L2 TLB as CPUID 8000_0006 gives them; caches: the " +
  "same guides; walk caches, nested TLB and overlap: model parameters";
const ARM_SOURCE =
  "TLBs: PHYS-172 (Arm technical reference manuals); system cache: that of common servers; walk caches, nested TLB and " +
  "overlap: model parameters";

const GENERIC: Geometry = {
  name: "generic",
  description: "no core in particular: L1 64 x 4-way and 32 x 4-way, L2 2048 x 8-way",
  source: "middle of the rows of PHYS-172; latencies: PHYS-173",
  l1: split(tlb(64, 4), tlb(32, 4)),
  l2: shared(tlb(2048, 8)),
  l2HitCycles: 8,
  walkCaches: INTEL_WALK_CACHES,
  nestedTlb: NESTED_TLB,
  caches: [cache(1 * MB, 8, 14), cache(32 * MB, 16, 60)],
  memoryNs: 90,
  ghz: 3,
  walkStartCycles: 4,
  tableShare: 0.5,
  walkOverlap: 0.4,
};

const SKYLAKE: Geometry = {
  ...GENERIC,
  name: "skylake",
  description: "Intel Skylake to Cascade Lake servers, and their clients",
  source: INTEL_SOURCE,
  l2: shared(tlb(1536, 12)),
  l2HitCycles: 9,
  caches: [cache(32 * KB, 8, 5), cache(1 * MB, 16, 14), cache(32 * MB, 16, 65)],
};

const SUNNY_COVE: Geometry = {
  ...SKYLAKE,
  name: "sunny-cove",
  description: "Intel Ice Lake, Tiger Lake, Rocket Lake",
  l2: shared(tlb(2048, 16)),
  caches: [cache(48 * KB, 12, 5), cache(1280 * KB, 20, 14), cache(48 * MB, 12, 70)],
};

const GOLDEN_COVE: Geometry = {
  ...SUNNY_COVE,
  name: "golden-cove",
  description: "Intel Alder Lake, Raptor Lake, Sapphire Rapids and later",
  l1: split(tlb(96, 6), tlb(32, 4)),
  caches: [cache(48 * KB, 12, 5), cache(2 * MB, 16, 15), cache(64 * MB, 16, 100)],
  memoryNs: 110,
  ghz: 3.3,
  walkOverlap: 0.5,
};

const ZEN2: Geometry = {
  ...GENERIC,
  name: "zen2",
  description: "AMD Zen 2 (EPYC 7xx2, Ryzen 3000)",
  source: AMD_SOURCE,
  l1: shared(full(64)),
  l2: shared(tlb(2048, 8)),
  l2HitCycles: 7,
  walkCaches: AMD_WALK_CACHES,
  nestedTlb: AMD_NESTED_TLB,
  walkStartCycles: 18,
  caches: [cache(512 * KB, 8, 12), cache(16 * MB, 16, 39)],
  memoryNs: 100,
  ghz: 3.3,
};

const ZEN3: Geometry = {
  ...ZEN2,
  name: "zen3",
  description: "AMD Zen 3 (EPYC 7xx3, Ryzen 5000)",
  caches: [cache(512 * KB, 8, 12), cache(32 * MB, 16, 46)],
  ghz: 3.5,
  walkOverlap: 0.5,
};

const ZEN4: Geometry = {
  ...ZEN3,
  name: "zen4",
  description: "AMD Zen 4 (EPYC 9xx4, Ryzen 7000)",
  l1: shared(full(72)),
  l2: shared(tlb(3072, 12)),
  caches: [cache(1 * MB, 8, 14), cache(32 * MB, 16, 50)],
  memoryNs: 110,
  ghz: 3.7,
};

const ZEN5: Geometry = {
  ...ZEN4,
  name: "zen5",
  description: "AMD Zen 5 (EPYC 9xx5, Ryzen 9000)",
  l1: shared(full(96)),
  l2: shared(tlb(4096, 16)),
  caches: [cache(1 * MB, 16, 14), cache(32 * MB, 16, 46)],
  ghz: 4,
};

const NEOVERSE_N1: Geometry = {
  ...GENERIC,
  name: "neoverse-n1",
  description: "Arm Neoverse N1 with 4K granules (Graviton 2, Ampere Altra)",
  source: ARM_SOURCE,
  l1: shared(full(48)),
  l2: shared(tlb(1280, 5)),
  l2HitCycles: 5,
  walkCaches: ARM_WALK_CACHES,
  caches: [cache(1 * MB, 8, 11), cache(32 * MB, 16, 80)],
  memoryNs: 100,
  ghz: 2.8,
};

const NEOVERSE_N2: Geometry = {
  ...NEOVERSE_N1,
  name: "neoverse-n2",
  description: "Arm Neoverse N2 with 4K granules",
  l1: shared(full(44)),
  caches: [cache(1 * MB, 8, 10), cache(32 * MB, 16, 80)],
};

const NEOVERSE_V2: Geometry = {
  ...NEOVERSE_N1,
  name: "neoverse-v2",
  description: "Arm Neoverse V2 with 4K granules (Graviton 4, Grace)",
  l2: shared(tlb(2048, 8)),
  caches: [cache(2 * MB, 8, 11), cache(64 * MB, 16, 90)],
  memoryNs: 115,
  walkOverlap: 0.5,
};

/** All geometries; the first is the default. */
export const GEOMETRIES: readonly Geometry[] = [
  GENERIC,
  SKYLAKE,
  SUNNY_COVE,
  GOLDEN_COVE,
  ZEN2,
  ZEN3,
  ZEN4,
  ZEN5,
  NEOVERSE_N1,
  NEOVERSE_N2,
  NEOVERSE_V2,
];

/** The geometry of that name. Throws UsageError with all names. */
export function geometryByName(name: string): Geometry {
  const found = GEOMETRIES.find((geometry) => geometry.name === name);
  if (found) return found;
  const names = GEOMETRIES.map((geometry) => geometry.name).join(", ");
  throw new UsageError("geometry", `"${name}"`, `one of ${names}`);
}

/** A choice and why, for the report. */
export interface GeometryChoice {
  readonly geometry: Geometry;
  /** Nested if the CPU says that it is a virtual one; the host's page size is then a guess. */
  readonly mode: TranslationMode;
  readonly because: string;
}

/** The choice without regard to virtual machines. */
type CoreChoice = Pick<GeometryChoice, "geometry" | "because">;

/** Fitted to the random reads of PHYS-208 and to those of `calibrate` on another guest: docs/hardware-model.md. */
const GUEST_TABLE_SHARE = 0.25;

/** Cores by vendor, family and ranges of models as CPUID numbers them; `last` is inclusive. */
interface ModelRange {
  readonly vendor: "GenuineIntel" | "AuthenticAMD" | "HygonGenuine";
  readonly family: number;
  readonly first: number;
  readonly last: number;
  readonly geometry: Geometry;
  /** What the core is, where the geometry is only its nearest relative. */
  readonly nearest?: string;
}

function intel(geometry: Geometry, ...models: number[]): ModelRange[] {
  return models.map((m) => ({ vendor: "GenuineIntel", family: 6, first: m, last: m, geometry }));
}

function amd(family: number, first: number, last: number, geometry: Geometry): ModelRange {
  return { vendor: "AuthenticAMD", family, first, last, geometry };
}

const MODEL_RANGES: readonly ModelRange[] = [
  ...intel(SKYLAKE, 0x4e, 0x5e, 0x55, 0x8e, 0x9e, 0xa5, 0xa6),
  ...intel(SUNNY_COVE, 0x6a, 0x6c, 0x7d, 0x7e, 0x8c, 0x8d, 0xa7),
  ...intel(GOLDEN_COVE, 0x8f, 0x97, 0x9a, 0xb7, 0xba, 0xbf, 0xcf),
  ...intel(GOLDEN_COVE, 0xaa, 0xac, 0xad, 0xae).map((r) => ({ ...r, nearest: "Redwood Cove" })),
  ...intel(SKYLAKE, 0x3d, 0x47, 0x4f, 0x56).map((r) => ({ ...r, nearest: "Broadwell" })),
  { ...amd(0x17, 0x00, 0x2f, ZEN2), nearest: "Zen" },
  amd(0x17, 0x30, 0xff, ZEN2),
  { ...amd(0x18, 0x00, 0xff, ZEN2), vendor: "HygonGenuine", nearest: "Hygon Dhyana" },
  amd(0x19, 0x00, 0x0f, ZEN3),
  amd(0x19, 0x10, 0x1f, ZEN4),
  amd(0x19, 0x20, 0x5f, ZEN3),
  amd(0x19, 0x60, 0xaf, ZEN4),
  amd(0x1a, 0x00, 0xff, ZEN5),
];

/** Arm cores by implementer (0x41 is Arm) and part number. */
const ARM_PARTS: ReadonlyMap<number, Geometry> = new Map([
  [0xd0c, NEOVERSE_N1],
  [0xd49, NEOVERSE_N2],
  [0xd4f, NEOVERSE_V2],
]);

/** Model names where family and model are missing or hidden by a hypervisor; the first match wins. */
const NAME_PATTERNS: readonly (readonly [RegExp, Geometry])[] = [
  [/EPYC[^\n]* 7\w\w2\b|EPYC-Rome|Ryzen \d (PRO )?3\d{3}/, ZEN2],
  [/EPYC[^\n]* 7\w\w3\b|EPYC-Milan|Ryzen \d (PRO )?5\d{3}/, ZEN3],
  [/EPYC[^\n]* [489]\w\w4\w*\b|EPYC-Genoa|Ryzen \d (PRO )?7\d{3}/, ZEN4],
  [/EPYC[^\n]* 9\w\w5\w*\b|EPYC-Turin|Ryzen \d (PRO )?9\d{3}/, ZEN5],
  [/Xeon[^\n]* (Gold|Platinum|Silver|Bronze) \d[12]\d\d[A-Z]*\b|Skylake|Cascade ?Lake/i, SKYLAKE],
  [/Xeon[^\n]* (Gold|Platinum|Silver) \d3\d\d[A-Z]*\b|Ice ?Lake/i, SUNNY_COVE],
  [/Xeon[^\n]* (Gold|Platinum|Silver|Bronze) \d[45]\d\d[A-Z]*\b|Sapphire ?Rapids/i, GOLDEN_COVE],
  [/Neoverse[- ]N1/i, NEOVERSE_N1],
  [/Neoverse[- ]N2/i, NEOVERSE_N2],
  [/Neoverse[- ]V2/i, NEOVERSE_V2],
];

/** The hardware that the text of /proc/cpuinfo (its first CPU) describes; the default geometry if unknown. Pure. */
export function geometryForCpu(cpuinfo: string): GeometryChoice {
  const { geometry, because } = coreForCpu(cpuinfo);
  if (!(fieldOf(cpuinfo, "flags") ?? "").split(" ").includes("hypervisor")) {
    return { geometry, mode: { kind: "native" }, because };
  }
  return {
    geometry: { ...geometry, tableShare: GUEST_TABLE_SHARE },
    mode: nestedMode("4k"),
    because: `${because}, in a virtual machine`,
  };
}

/** Where it was not measured: on one guest it was 2 to 5 after hours of work. */
const USUAL_RUN_PAGES = 4;

/** A guest whose 4K pages lie scattered in its memory, as on a machine that has run for a while. */
export function nestedMode(hostPage: HostPage, runPages = USUAL_RUN_PAGES): TranslationMode {
  return { kind: "nested", hostPage, runPages };
}

function coreForCpu(cpuinfo: string): CoreChoice {
  return (
    byArmPart(fieldOf(cpuinfo, "CPU implementer"), fieldOf(cpuinfo, "CPU part")) ??
    byModel(
      fieldOf(cpuinfo, "vendor_id"),
      fieldOf(cpuinfo, "cpu family"),
      fieldOf(cpuinfo, "model"),
    ) ??
    byModelName(fieldOf(cpuinfo, "model name") ?? cpuinfo) ?? {
      geometry: GENERIC,
      because: "the CPU is not known here",
    }
  );
}

function byArmPart(implementer: string | null, part: string | null): CoreChoice | null {
  if (Number(implementer) !== 0x41) return null;
  const geometry = ARM_PARTS.get(Number(part));
  return geometry ? { geometry, because: `CPU part ${part} is ${geometry.name}` } : null;
}

function byModel(
  vendor: string | null,
  familyText: string | null,
  modelText: string | null,
): CoreChoice | null {
  if (familyText === null || modelText === null) return null;
  const [family, model] = [Number(familyText), Number(modelText)];
  const range = MODEL_RANGES.find(
    (r) => r.vendor === vendor && r.family === family && r.first <= model && model <= r.last,
  );
  if (!range) return null;
  const relation = range.nearest ? `is ${range.nearest}, nearest to` : "is";
  const { geometry } = range;
  const because = `${vendor} family ${family} model ${model} ${relation} ${geometry.name}`;
  return { geometry, because };
}

function byModelName(name: string): CoreChoice | null {
  const found = NAME_PATTERNS.find(([pattern]) => pattern.test(name));
  return found ? { geometry: found[1], because: `its name says ${found[1].name}` } : null;
}

/** Value of the first "name : value" line, or null. */
function fieldOf(cpuinfo: string, name: string): string | null {
  for (const line of cpuinfo.split("\n")) {
    const colon = line.indexOf(":");
    if (colon >= 0 && line.slice(0, colon).trim() === name) return line.slice(colon + 1).trim();
  }
  return null;
}
