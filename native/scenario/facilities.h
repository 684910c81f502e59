/*
 * Swap on zram and memory cgroups: what the kernel may lack.
 */
#ifndef SCENARIO_FACILITIES_H
#define SCENARIO_FACILITIES_H

#include <stdint.h>
#include <sys/types.h>

/*
 * Makes a swap device of `bytes` and puts it in use; 0, -errno or FAILED_FACILITY. One of that size is kept; if slots were given
 * out since it was put in use it is put in use anew, because the kernel goes on behind the slot it gave last.
 */
int swap_ready(uint64_t bytes);
/* Slots may be given out from here on. */
void swap_note_use(void);
int swap_on(void);
int swap_off(void);

/* Creates a group (limit -1: none) or gives a known one a new limit. */
int memcg_limit(const char *name, int64_t limit);
int memcg_join(const char *name, pid_t pid);

#endif
