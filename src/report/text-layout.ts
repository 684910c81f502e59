/**
 * The column layouts that several of the kernel's memory files share.
 *
 * Owns:  nothing; every function makes one line, newline included.
 * Units: kB is KiB, 4 per page.
 */

/** Values of smaps and meminfo begin after this many characters and are this wide. */
const LABEL_WIDTH = 16;
const VALUE_WIDTH = 8;
export const KIB_PER_PAGE = 4;

/** `Label:          %8lu kB`, as smaps and meminfo have it (PROC-010, PROC-060). */
export function kbLine(label: string, kb: number): string {
  return `${countText(label, kb)} kB\n`;
}

/** The same layout without a unit: THPeligible, HugePages_Total. */
export function countLine(label: string, count: number): string {
  return `${countText(label, count)}\n`;
}

/** `Label:\t%8lu kB`, as status has it (PROC-030). */
export function statusKbLine(label: string, kb: number): string {
  return `${label}:\t${String(kb).padStart(VALUE_WIDTH)} kB\n`;
}

function countText(label: string, count: number): string {
  return `${label}:`.padEnd(LABEL_WIDTH) + String(count).padStart(VALUE_WIDTH);
}
