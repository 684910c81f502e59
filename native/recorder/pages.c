/*
 * The page map. See pages.h.
 *
 * Memory comes from mmap directly: malloc's arenas belong to QEMU, and a chunk is touched only where its program is.
 */
#define _GNU_SOURCE
#include "pages.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NR_GIGS (1u << 17)
#define CHUNKS_PER_GIG 512
#define CHUNKS_AT_ONCE 64

static struct chunk **gigs[NR_GIGS];
/* All chunks, for fork; and those of the current interval. */
static struct chunk **all, **counted;
static uint32_t nr_all, nr_counted, room;
static struct chunk *spare;
static uint32_t nr_spare;
/* Most calls are for the chunk of the call before. */
static struct chunk *latest;

static void *take(size_t size) {
  void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) abort();
  return at;
}

static struct chunk *new_chunk(uint64_t first_page) {
  if (nr_spare == 0) {
    spare = take(CHUNKS_AT_ONCE * sizeof *spare);
    nr_spare = CHUNKS_AT_ONCE;
  }
  if (nr_all == room) {
    room = room ? room * 2 : 1024;
    all = realloc(all, room * sizeof *all);
    counted = realloc(counted, room * sizeof *counted);
    if (!all || !counted) abort();
  }
  struct chunk *c = &spare[--nr_spare];
  c->first_page = first_page;
  all[nr_all++] = c;
  return c;
}

struct chunk *pages_chunk(uint64_t page) {
  uint64_t first = page & ~(uint64_t)(PAGES_PER_CHUNK - 1);
  if (latest && latest->first_page == first) return latest;
  uint32_t gig = (page >> 18) & (NR_GIGS - 1);
  if (!gigs[gig]) gigs[gig] = take(CHUNKS_PER_GIG * sizeof(struct chunk *));
  struct chunk **slot = &gigs[gig][(page >> 9) & (CHUNKS_PER_GIG - 1)];
  if (!*slot) *slot = new_chunk(first);
  return latest = *slot;
}

/* The chunk if there is one. */
static struct chunk *find(uint64_t page) {
  struct chunk **gig = gigs[(page >> 18) & (NR_GIGS - 1)];
  return gig ? gig[(page >> 9) & (CHUNKS_PER_GIG - 1)] : NULL;
}

bool pages_see(uint64_t page, bool is_write) {
  struct chunk *c = pages_chunk(page);
  uint32_t i = page & (PAGES_PER_CHUNK - 1);
  uint64_t *word = &c->seen[is_write][i / 64], bit = 1ull << (i % 64);
  if (*word & bit) return false;
  *word |= bit;
  return true;
}

void pages_count(uint64_t page, bool is_write, uint32_t times) {
  struct chunk *c = pages_chunk(page);
  uint32_t *n = &c->counts[is_write][page & (PAGES_PER_CHUNK - 1)];
  *n = *n + times < *n ? UINT32_MAX : *n + times;
  if (c->is_counted) return;
  c->is_counted = true;
  counted[nr_counted++] = c;
}

static uint64_t chunk_end(uint64_t page) {
  return (page | (PAGES_PER_CHUNK - 1)) + 1;
}

void pages_forget(uint64_t page, uint64_t nr_pages) {
  uint64_t end = page + nr_pages;
  while (page < end) {
    /* Whole empty gigabytes are skipped: reservations of terabytes are common. */
    if (!gigs[(page >> 18) & (NR_GIGS - 1)]) {
      page = (page | ((1u << 18) - 1)) + 1;
      continue;
    }
    uint64_t stop = chunk_end(page) < end ? chunk_end(page) : end;
    struct chunk *c = find(page);
    for (; c && page < stop; page++) {
      uint32_t i = page & (PAGES_PER_CHUNK - 1);
      c->seen[0][i / 64] &= ~(1ull << (i % 64));
      c->seen[1][i / 64] &= ~(1ull << (i % 64));
    }
    page = stop;
  }
}

static bool has_seen(uint64_t page, bool is_write) {
  struct chunk *c = find(page);
  uint32_t i = page & (PAGES_PER_CHUNK - 1);
  return c && (c->seen[is_write][i / 64] >> (i % 64) & 1);
}

void pages_move(uint64_t from, uint64_t to, uint64_t nr_pages) {
  pages_forget(to, nr_pages);
  for (uint64_t i = 0; i < nr_pages; i++) {
    if (has_seen(from + i, false)) pages_see(to + i, false);
    if (has_seen(from + i, true)) pages_see(to + i, true);
  }
  pages_forget(from, nr_pages);
}

void pages_forget_all_writes(void) {
  for (uint32_t i = 0; i < nr_all; i++) memset(all[i]->seen[1], 0, sizeof all[i]->seen[1]);
}

void pages_forget_all(void) {
  for (uint32_t i = 0; i < nr_all; i++) {
    memset(all[i]->seen, 0, sizeof all[i]->seen);
    if (all[i]->is_counted) memset(all[i]->counts, 0, sizeof all[i]->counts);
    all[i]->is_counted = false;
  }
  nr_counted = 0;
}

static int by_address(const void *a, const void *b) {
  uint64_t x = (*(struct chunk *const *)a)->first_page, y = (*(struct chunk *const *)b)->first_page;
  return x < y ? -1 : x > y;
}

/* Counts are kept to four significant bits: runs of pages used alike stay runs. */
static uint32_t rounded(uint32_t n) {
  if (n < 16) return n;
  int drop = 28 - __builtin_clz(n);
  uint64_t up = ((uint64_t)n + (1u << (drop - 1))) >> drop << drop;
  return up > UINT32_MAX ? UINT32_MAX : (uint32_t)up;
}

void pages_end_interval(pages_run emit) {
  qsort(counted, nr_counted, sizeof *counted, by_address);
  uint64_t start = 0, length = 0;
  uint32_t reads = 0, writes = 0;
  for (uint32_t k = 0; k < nr_counted; k++) {
    struct chunk *c = counted[k];
    for (uint32_t i = 0; i < PAGES_PER_CHUNK; i++) {
      uint32_t r = rounded(c->counts[0][i]), w = rounded(c->counts[1][i]);
      if ((r | w) == 0) continue;
      uint64_t page = c->first_page + i;
      if (length > 0 && page == start + length && r == reads && w == writes) {
        length++;
        continue;
      }
      if (length > 0) emit(start, length, reads, writes);
      start = page, length = 1, reads = r, writes = w;
    }
    memset(c->counts, 0, sizeof c->counts);
    c->is_counted = false;
  }
  if (length > 0) emit(start, length, reads, writes);
  nr_counted = 0;
}
