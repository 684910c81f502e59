/*
 * What is known of each page of this process: was it read, was it written since it was mapped, forked or dropped, and how
 * often in the current interval. Three levels by address, 2 MiB of pages (a chunk) at a time.
 *
 * Callers hold the process lock.
 */
#ifndef RECORDER_PAGES_H
#define RECORDER_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#define PAGES_PER_CHUNK 512

struct chunk {
  uint64_t first_page;
  /* Bit per page: seen[0] read, seen[1] written. */
  uint64_t seen[2][PAGES_PER_CHUNK / 64];
  /* Accesses since the interval began: counts[0] reads, counts[1] writes. */
  uint32_t counts[2][PAGES_PER_CHUNK];
  bool is_counted; /* in the interval's list */
};

/* The chunk of `page`, made if absent. */
struct chunk *pages_chunk(uint64_t page);

/* Notes a first read or write; true if it is the first. */
bool pages_see(uint64_t page, bool is_write);
void pages_count(uint64_t page, bool is_write, uint32_t times);

/* The range is new or dropped: nothing in it was read or written. */
void pages_forget(uint64_t page, uint64_t nr_pages);
/* mremap: what was seen moves along. */
void pages_move(uint64_t from, uint64_t to, uint64_t nr_pages);
/* After fork: in the parent every page may have to be copied again at its next write. */
void pages_forget_all_writes(void);
/* In the forked child: nothing was seen, nothing was counted. */
void pages_forget_all(void);

/* A run of neighbouring pages with equal counts. */
typedef void (*pages_run)(uint64_t page, uint64_t nr_pages, uint32_t reads, uint32_t writes);
/* Hands out the interval's counts in ascending order and begins the next interval. */
void pages_end_interval(pages_run emit);

#endif
