/**
 * Intrusive doubly linked lists of integers: many lists share two columns of links.
 *
 * A row is in at most one list of one column pair. Each list is a ring around a sentinel row of its own; sentinels stand
 * behind the ordinary rows. Nothing is allocated after creation, and creation touches only the sentinels.
 */

export interface IntLists {
  /** Next row towards the tail. Rows: members and sentinels; stale for a row in no list. */
  readonly next: Int32Array;
  /** Next row towards the head. Rows: as `next`. */
  readonly prev: Int32Array;
  /** Row number of list 0's sentinel; list i has sentinel `firstSentinel + i`. */
  readonly firstSentinel: number;
}

/** Links for rows 0..nrRows-1 and `nrLists` empty lists. */
export function createIntLists(nrRows: number, nrLists: number): IntLists {
  const lists: IntLists = {
    next: new Int32Array(nrRows + nrLists),
    prev: new Int32Array(nrRows + nrLists),
    firstSentinel: nrRows,
  };
  for (let list = 0; list < nrLists; list++) clearList(lists, list);
  return lists;
}

/** Empties a list without touching its former members. */
export function clearList(lists: IntLists, list: number): void {
  const sentinel = lists.firstSentinel + list;
  lists.next[sentinel] = sentinel;
  lists.prev[sentinel] = sentinel;
}

export function isListEmpty(lists: IntLists, list: number): boolean {
  const sentinel = lists.firstSentinel + list;
  return lists.next[sentinel] === sentinel;
}

/** First row of a list, or -1. */
export function listHead(lists: IntLists, list: number): number {
  const sentinel = lists.firstSentinel + list;
  const row = lists.next[sentinel];
  return row === sentinel ? -1 : row;
}

/** Last row of a list, or -1. */
export function listTail(lists: IntLists, list: number): number {
  const sentinel = lists.firstSentinel + list;
  const row = lists.prev[sentinel];
  return row === sentinel ? -1 : row;
}

/** Row after `row` in its list, or -1 at the tail. */
export function listNext(lists: IntLists, row: number): number {
  const next = lists.next[row];
  return next >= lists.firstSentinel ? -1 : next;
}

/** Adds a row that is in no list at the head. */
export function addHead(lists: IntLists, list: number, row: number): void {
  linkBetween(lists, row, lists.firstSentinel + list, lists.next[lists.firstSentinel + list]);
}

/** Adds a row that is in no list at the tail. */
export function addTail(lists: IntLists, list: number, row: number): void {
  linkBetween(lists, row, lists.prev[lists.firstSentinel + list], lists.firstSentinel + list);
}

/** Adds a row that is in no list behind `after`, a member of the wanted list. */
export function addAfter(lists: IntLists, after: number, row: number): void {
  linkBetween(lists, row, after, lists.next[after]);
}

/** Takes a row out of the list it is in. */
export function unlink(lists: IntLists, row: number): void {
  const next = lists.next[row];
  const prev = lists.prev[row];
  lists.next[prev] = next;
  lists.prev[next] = prev;
}

function linkBetween(lists: IntLists, row: number, prev: number, next: number): void {
  lists.next[row] = next;
  lists.prev[row] = prev;
  lists.next[prev] = row;
  lists.prev[next] = row;
}
