import fc from "fast-check";
import { expect, test } from "vitest";
import {
  addAfter,
  addHead,
  addTail,
  clearList,
  createIntLists,
  isListEmpty,
  listHead,
  listNext,
  listTail,
  unlink,
} from "./int-list.ts";

const NR_ROWS = 12;
const NR_LISTS = 3;

type Step = { how: "head" | "tail" | "after"; row: number; list: number };

/** The list as an array, read forwards; asserts that it reads the same backwards. */
function rowsOf(lists: ReturnType<typeof createIntLists>, list: number): number[] {
  const rows: number[] = [];
  for (let row = listHead(lists, list); row >= 0; row = listNext(lists, row)) rows.push(row);
  const backwards: number[] = [];
  const sentinel = lists.firstSentinel + list;
  for (let row = lists.prev[sentinel]; row !== sentinel; row = lists.prev[row]) backwards.push(row);
  expect(backwards.reverse()).toEqual(rows);
  return rows;
}

test("lists behave as arrays do, whatever moves where", () => {
  const steps = fc.array(
    fc.record({
      how: fc.constantFrom("head" as const, "tail" as const, "after" as const),
      row: fc.nat(NR_ROWS - 1),
      list: fc.nat(NR_LISTS - 1),
    }),
  );
  fc.assert(
    fc.property(steps, (list: Step[]) => {
      const lists = createIntLists(NR_ROWS, NR_LISTS);
      const naive: number[][] = [[], [], []];
      for (const { how, row, list: to } of list) {
        const from = naive.findIndex((rows) => rows.includes(row));
        if (from >= 0) {
          unlink(lists, row);
          naive[from] = naive[from].filter((member) => member !== row);
        }
        const target = naive[to];
        if (how === "head") {
          addHead(lists, to, row);
          target.unshift(row);
        } else if (how === "tail" || target.length === 0) {
          addTail(lists, to, row);
          target.push(row);
        } else {
          const at = row % target.length;
          addAfter(lists, target[at], row);
          target.splice(at + 1, 0, row);
        }
      }
      for (const [i, rows] of naive.entries()) {
        expect(rowsOf(lists, i)).toEqual(rows);
        expect(isListEmpty(lists, i)).toBe(rows.length === 0);
        expect(listHead(lists, i)).toBe(rows[0] ?? -1);
        expect(listTail(lists, i)).toBe(rows.at(-1) ?? -1);
      }
    }),
  );
});

test("a cleared list is empty and the others are not touched", () => {
  const lists = createIntLists(4, 2);
  addTail(lists, 0, 1);
  addTail(lists, 1, 2);
  clearList(lists, 0);
  expect(rowsOf(lists, 0)).toEqual([]);
  expect(rowsOf(lists, 1)).toEqual([2]);
});
