import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AddressBook, createAddressBook, type RecordedMap } from "./address-book.ts";
import { createLogSink, type LoggedCall } from "./log-sink.ts";
import { PieceMap } from "./piece-map.ts";
import { createValidatingSink } from "./validate.ts";

const PAGE = 4096;
/** A recorded address space of so many pages, small so that random calls collide. */
const NR_PAGES = 48;
const BASE = 0x7f00_0000_0000;

interface Fixture {
  readonly book: AddressBook;
  readonly calls: LoggedCall[];
}

/** A book with process 0 in front of a validating sink; `calls` starts empty. */
function createFixture(): Fixture {
  const { sink, calls } = createLogSink();
  const checked = createValidatingSink(sink, () => "here");
  checked.begin({
    command: ["a"],
    source: "synthetic",
    has: { exactTouches: false, counts: false, order: "none" },
  });
  const book = createAddressBook(checked);
  book.start(0, -1, "exec");
  calls.length = 0;
  return { book, calls };
}

function anonymous(page: number, nrPages: number, request: RecordedMap["request"]): RecordedMap {
  return {
    address: BASE + page * PAGE,
    length: nrPages * PAGE,
    request,
    prot: 3,
    isShared: false,
    backing: { kind: "anonymous" },
    flags: [],
  };
}

const at = (page: number): number => BASE / PAGE + page;

function found(book: AddressBook, page: number, process = 0): string {
  return book.find(process, at(page)) ? `${book.mapping}:${book.page}` : "-";
}

describe("PieceMap", () => {
  test("agrees with a list of pages under random adds, removals and lookups", () => {
    const step = fc.tuple(fc.boolean(), fc.nat(NR_PAGES - 1), fc.integer({ min: 1, max: 12 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
        const pieces = new PieceMap();
        const model = new Array<string>(NR_PAGES + 12).fill("-");
        for (const [i, [isAdd, start, length]] of steps.entries()) {
          pieces.remove(start, start + length);
          model.fill("-", start, start + length);
          if (isAdd) {
            pieces.add(start, start + length, i, 100);
            for (let k = 0; k < length; k++) model[start + k] = `${i}:${100 + k}`;
          }
          const answers = model.map((_, page) => {
            const row = pieces.find(page);
            if (row < 0) return "-";
            return `${pieces.mapping[row]}:${pieces.first[row] + page - pieces.start[row]}`;
          });
          expect(answers).toEqual(model);
        }
      }),
    );
  });
});

describe("AddressBook", () => {
  test("a page is found by mapping and offset, with the pages that follow it", () => {
    const { book } = createFixture();
    book.mmap(0, anonymous(10, 5, "any"));
    book.mmap(0, anonymous(15, 2, "any"));
    expect(found(book, 12)).toBe("0:2");
    expect(book.nrFollowing).toBe(3);
    expect([found(book, 9), found(book, 15), found(book, 17)]).toEqual(["-", "1:0", "-"]);
  });

  test("munmap across two mappings names a range of each", () => {
    const { book, calls } = createFixture();
    book.mmap(0, anonymous(0, 4, "any"));
    book.mmap(0, anonymous(4, 4, "any"));
    calls.length = 0;

    book.munmap(0, BASE + 3 * PAGE, 3 * PAGE - 100);

    expect(calls).toEqual([
      ["unmap", 0, { mapping: 0, page: 3, nrPages: 1 }],
      ["unmap", 0, { mapping: 1, page: 0, nrPages: 2 }],
    ]);
    expect([2, 3, 5, 6].map((page) => found(book, page))).toEqual(["0:2", "-", "-", "1:2"]);
  });

  test("MAP_FIXED inside a mapping is placed at its page; what is left keeps its pages", () => {
    const { book, calls } = createFixture();
    book.mmap(0, anonymous(0, 10, "any"));

    book.mmap(0, anonymous(3, 2, "fixed"));

    const call = calls.at(-1)![2] as { placement: unknown };
    expect(call.placement).toEqual({ kind: "at", mapping: 0, page: 3 });
    expect([2, 3, 4, 5].map((page) => found(book, page))).toEqual(["0:2", "1:0", "1:1", "0:5"]);
  });

  test("placement says what decided the address: nothing, a hint, the image, a neighbour", () => {
    const { book, calls } = createFixture();
    const placements = (): unknown[] =>
      calls
        .filter(([method]) => method === "map")
        .map((call) => (call[2] as { placement: unknown }).placement);
    book.mmap(0, anonymous(100, 1, "image"));
    book.mmap(0, anonymous(104, 1, "image"));
    book.mmap(0, anonymous(300, 1, "hint"));
    book.mmap(0, anonymous(301, 1, "hint"));
    book.mmap(0, anonymous(302, 1, "fixed"));
    book.mmap(0, anonymous(110, 1, "fixed"));
    book.mmap(0, { ...anonymous(0, 1, "fixed"), address: 0x1000_0000 });
    expect(placements()).toEqual([
      { kind: "image", offsetPages: 0 },
      { kind: "image", offsetPages: 4 },
      { kind: "hint", address: BASE + 300 * PAGE },
      { kind: "any" },
      { kind: "at", mapping: 3, page: 1 },
      { kind: "image", offsetPages: 10 },
      { kind: "hint", address: 0x1000_0000 },
    ]);
  });

  test("fork copies what is known; afterwards the two are apart", () => {
    const { book } = createFixture();
    book.mmap(0, anonymous(0, 4, "any"));
    book.start(1, 0, "fork");
    book.munmap(1, BASE, PAGE);
    expect([found(book, 0, 0), found(book, 0, 1), found(book, 1, 1)]).toEqual(["0:0", "-", "0:1"]);
  });

  test("brk grows and shrinks one mapping whose first page is where the heap began", () => {
    const { book, calls } = createFixture();
    book.brk(0, BASE + 100);
    book.brk(0, BASE + 3 * PAGE);
    book.brk(0, BASE + 2 * PAGE + 1);
    book.brk(0, BASE + 2 * PAGE);
    expect(calls.map(([method, ...rest]) => [method, rest.at(-1)]).slice(1)).toEqual([
      ["brk", 2],
      ["brk", 1],
    ]);
    expect([0, 1, 2].map((page) => found(book, page))).toEqual(["-", "0:0", "-"]);
  });

  test("mremap in place grows the mapping; a move makes a new one of the new length", () => {
    const { book, calls } = createFixture();
    book.mmap(0, anonymous(0, 2, "any"));
    calls.length = 0;

    book.mremap(0, BASE, 2 * PAGE, BASE, 5 * PAGE, "move");
    book.mremap(0, BASE + PAGE, 4 * PAGE, BASE + 20 * PAGE, 6 * PAGE, "move");

    expect(calls).toEqual([
      ["remap", 0, { mapping: 0, page: 0, nrPages: 2 }, 0, 5, false],
      ["remap", 0, { mapping: 0, page: 1, nrPages: 4 }, 1, 6, false],
    ]);
    expect([0, 1, 20, 25, 26].map((p) => found(book, p))).toEqual(["0:0", "-", "1:0", "1:5", "-"]);
  });

  test("any calls at all keep the order rules, and every page is where a naive list says", () => {
    const place = fc.nat(NR_PAGES - 1);
    const length = fc.integer({ min: 1, max: 12 });
    const step = fc.tuple(fc.nat(7), place, length, place, length);
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
        const { book } = createFixture();
        const model = new Array<string>(NR_PAGES + 30).fill("-");
        let nrMappings = 0;
        const fill = (start: number, nrPages: number): void => {
          for (let i = 0; i < nrPages; i++) model[start + i] = `${nrMappings}:${i}`;
          nrMappings++;
        };
        for (const [kind, page, nrPages, to, nrThere] of steps) {
          const address = BASE + page * PAGE;
          if (kind <= 2) {
            book.mmap(0, anonymous(page, nrPages, kind === 0 ? "any" : "fixed"));
            fill(page, nrPages);
          } else if (kind <= 4) {
            book.munmap(0, address, nrPages * PAGE);
            model.fill("-", page, page + nrPages);
          } else if (kind === 5) {
            book.madvise(0, address, nrPages * PAGE, 4, 0);
          } else if (kind === 6) {
            // Only what the kernel would accept: one mapped piece, a target apart from it.
            if (new Set(model.slice(page, page + nrPages).map(mappingIn)).size !== 1) continue;
            if (model[page] === "-" || to < page + nrPages) continue;
            if (!isRun(model.slice(page, page + nrPages))) continue;
            book.mremap(0, address, nrPages * PAGE, BASE + to * PAGE, nrThere * PAGE, "move");
            model.fill("-", page, page + nrPages);
            fill(to, nrThere);
          } else {
            book.mprotect(0, address, nrPages * PAGE, 1);
          }
          expect(model.map((_, i) => found(book, i))).toEqual(model);
        }
      }),
      { numRuns: 400 },
    );
  });
});

function mappingIn(entry: string): string {
  return entry.split(":")[0];
}

/** Consecutive pages of one mapping. */
function isRun(entries: readonly string[]): boolean {
  const pages = entries.map((entry) => Number(entry.split(":")[1]));
  return pages.every((page, i) => page === pages[0] + i);
}
