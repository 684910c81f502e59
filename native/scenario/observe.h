/*
 * What can be seen of a process from outside: pages, VMAs, status.
 */
#ifndef SCENARIO_OBSERVE_H
#define SCENARIO_OBSERVE_H

#include <stdint.h>
#include <sys/types.h>

struct watched {
  pid_t pid;
  int pagemap, smaps, status, mem; /* open for as long as the process lives */
};

void observe_start(void);
/* A new observation: what frames were found to be may have changed. */
void observe_begin(void);
/* 0 or -errno. */
int watch_process(struct watched *w, pid_t pid);
void unwatch_process(struct watched *w);
/* Append to the answer: n x struct page_record; u32 n, n x struct vma_record, u64 kB anonymous and u64 kB locked of
   the actor's own memory; NR_STATUS x s64. */
void put_pages(struct watched *w, uint64_t start, uint32_t nr);
void put_vmas(struct watched *w);
void put_status(struct watched *w);
/* Appends a byte for each page: 0 not present, 1 all zero, 2 not. */
void put_contents(struct watched *w, uint64_t start, uint32_t nr, uint32_t step);

#endif
