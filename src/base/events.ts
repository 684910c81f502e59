/**
 * The event port: what the engine tells whoever watches. Declared low so that every layer may call it.
 *
 * Events are integers, so that a call allocates nothing; names and field meanings are in EVENT_NAMES. The machine holds one
 * nullable sink: `m.events?.emit(...)`.
 */

/** Trace events in the order of their numbers; fields a to g as listed, those that are not listed are left out. */
export const EVENT_NAMES = [
  /** a: mm id, b: region, c: packed pteIndex | kind << 9 (FAULT_KINDS in fault/). */
  "page_fault",
  /** a: head pfn, b: order, c: migratetype. */
  "mm_page_alloc",
  /** a: head pfn, b: order. */
  "mm_page_free",
  /** a: mm id, b: region. */
  "split_pmd",
  /** a: head pfn, b: order, c: 0 or a negative errno. */
  "split_folio",
  /** a: mm id, b: region, c: 1 if the region was huge. */
  "zap",
  /** a: allocated order, b: fallback order, c: 1 if the pageblock changed owner. */
  "mm_page_alloc_extfrag",
  /** A phase of a long operation begins. a: operation, b: number of the phase in its table, c: task. */
  "operation_phase",
  /**
   * A region was looked at, and collapsed if that was possible (COLL-280). a: mm id, b: head pfn of the page looked at last or
   * -1, c: referenced, d: none or zero, e: result as the profile's kernel numbers it, f: unmapped, g: 6.12: writable.
   */
  "mm_khugepaged_scan_pmd",
  /** A collapse was tried. a: mm id, b: 1 if it succeeded, c: result. */
  "mm_collapse_huge_page",
  /** The pages were taken or not. a: head pfn of the last one or -1, b: none or zero, c: referenced, d: result, e: writable. */
  "mm_collapse_huge_page_isolate",
  /** Swapped pages were brought back. a: mm id, b: pages, c: referenced as the scan saw it, d: result. */
  "mm_collapse_huge_page_swapin",
] as const;

export type EventName = (typeof EVENT_NAMES)[number];
export type EventId = number;

/** Event numbers by name. */
export const EVENT = Object.fromEntries(EVENT_NAMES.map((name, id) => [name, id])) as Readonly<
  Record<EventName, EventId>
>;

/** Port: receives every event. Must not call back into the machine. */
export interface EventSink {
  emit(
    event: EventId,
    a: number,
    b: number,
    c: number,
    d?: number,
    e?: number,
    f?: number,
    g?: number,
  ): void;
}
