/**
 * One event of the live kernel's huge_memory tracepoints from its text.
 *
 * Entry: readEvent. Holds: what depends on where memory lies is taken off, so that events can be compared with the model's.
 */

import { EVENT_FIELDS, type EventName, type TracedEvent } from "../scenario/backend.ts";

const NAMES: Readonly<Record<string, EventName>> = {
  mm_khugepaged_scan_pmd: "scan_pmd",
  mm_collapse_huge_page: "collapse",
  mm_collapse_huge_page_isolate: "isolate",
  mm_collapse_huge_page_swapin: "swapin",
};

/** `text`: "mm_khugepaged_scan_pmd: scan_pfn=0x1a0e0c, referenced=1, ..., unmapped=0". */
export function readEvent(process: string, text: string): TracedEvent {
  const colon = text.indexOf(":");
  const name = NAMES[text.slice(0, colon)] ?? "scan_pmd";
  const found = new Map(
    text
      .slice(colon + 1)
      .split(",")
      .map((field): [string, string] => {
        const equals = field.indexOf("=");
        return [field.slice(0, equals).trim(), field.slice(equals + 1).trim()];
      }),
  );
  const fields: Record<string, string | number> = {};
  for (const key of EVENT_FIELDS[name]) fields[key] = fieldOf(key, found.get(key) ?? "");
  return { process, name, fields };
}

function fieldOf(key: string, text: string): string | number {
  if (key === "scan_pfn") return /^0xf{16}$/.test(text) ? "none" : "page";
  return /^-?\d+$/.test(text) ? Number(text) : text;
}
