/**
 * Collapse's trace events of the model, kept for the statement that emitted them.
 *
 * Entry: EventLog, the machine's event sink while a scenario runs.
 * Order: an isolate event names no address space; it belongs to the collapse whose event follows (COLL-280).
 */

import { EVENT, type EventId, type EventSink } from "../base/events.ts";
import type { Profile } from "../base/profile.ts";
import { SCAN, scanResultName, traceNumber } from "../collapse/scan-result.ts";
import type { EventName, TracedEvent } from "./backend.ts";

interface KeptEvent {
  readonly mmId: number;
  readonly name: EventName;
  readonly fields: Readonly<Record<string, string | number>>;
}

export class EventLog implements EventSink {
  private readonly statusByNumber: ReadonlyMap<number, string>;
  private kept: KeptEvent[] = [];
  private isolated: KeptEvent["fields"][] = [];

  constructor(profile: Profile) {
    this.statusByNumber = new Map(
      Object.values(SCAN).map((result) => [traceNumber(profile, result), scanResultName(result)]),
    );
  }

  emit(event: EventId, a: number, b: number, c: number, d = 0, e = 0, f = 0): void {
    switch (event) {
      case EVENT.mm_khugepaged_scan_pmd:
        this.keep(a, "scan_pmd", {
          scan_pfn: frameWord(b),
          referenced: c,
          none_or_zero: d,
          status: this.status(e),
          unmapped: f,
        });
        break;
      case EVENT.mm_collapse_huge_page:
        this.keep(a, "collapse", { isolated: b, status: this.status(c) });
        break;
      case EVENT.mm_collapse_huge_page_isolate:
        this.isolated.push({
          scan_pfn: frameWord(a),
          none_or_zero: b,
          referenced: c,
          status: this.status(d),
        });
        break;
      case EVENT.mm_collapse_huge_page_swapin:
        this.keep(a, "swapin", { swapped_in: b, referenced: c, ret: d });
        break;
      default: // none of collapse's
    }
  }

  /** A statement begins. */
  clear(): void {
    this.kept = [];
    this.isolated = [];
  }

  /** `processOf`: name of the process with an address space; "" for one that is not the scenario's. */
  events(processOf: (mmId: number) => string): TracedEvent[] {
    return this.kept.map(({ mmId, name, fields }) => ({ process: processOf(mmId), name, fields }));
  }

  private keep(mmId: number, name: EventName, fields: KeptEvent["fields"]): void {
    for (const isolated of this.isolated)
      this.kept.push({ mmId, name: "isolate", fields: isolated });
    this.isolated = [];
    this.kept.push({ mmId, name, fields });
  }

  private status(number: number): string {
    return this.statusByNumber.get(number) ?? String(number);
  }
}

function frameWord(pfn: number): string {
  return pfn < 0 ? "none" : "page";
}
