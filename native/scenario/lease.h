/*
 * The right to change the kernel's knobs: the lock, what is quieted under it, and the knobs themselves.
 */
#ifndef SCENARIO_LEASE_H
#define SCENARIO_LEASE_H

#include <stdint.h>

/* Opens the lock file; its descriptor, or -errno. */
int lease_open(const char *path);
/* Takes the lock within `wait_s` seconds and quiets the kernel: 0, -errno or a failure. `why` says what failed. */
int lease_take(int wait_s, char *why, int size);
/* Puts everything back and lets others have the kernel, if the lease is older than `age_ms`. */
void lease_end_if_older(int age_ms);
int lease_is_held(void);

/* Writes a knob; what was there is put back when the lease ends. 0 or -errno. Only the knobs of huge pages and /proc/sys/vm. */
int knob_write(const char *path, const char *value);
int knob_read(const char *path, char *text, int size);
/* Writes again what a knob was set to last, if something else was written to it past knob_write. */
void knob_rewrite(const char *path);

/* The memory of a private 2 MiB area is collapsed again, which drains the LRU batches of all CPUs. */
void drain_lru(void);

/*
 * Knobs that let memory be huge that nobody advised hold "madvise" except between these two, so that other programs do not make
 * huge pages of which the scenario's operations would break up the rest.
 */
void knobs_lend(void);
void knobs_withhold(void);
/* Breaks up the large folios of other programs that wait for it, before the scenario has any. */
void split_folios_of_others(void);

#endif
