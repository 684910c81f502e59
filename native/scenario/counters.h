/*
 * Counters of the whole system, counted only while an operation runs, so that others' events between operations do not show.
 */
#ifndef SCENARIO_COUNTERS_H
#define SCENARIO_COUNTERS_H

#include <stdint.h>

void counters_start(void);
/* Names, one a line: of vmstat, and of the per-size stats as "2048kB/split". */
void counters_names(char *vmstat, char *stats, int size);
/*
 * Stats of a size that was never allowed since the scenario's beginning cannot change and are not read: told of every
 * write to a knob. 2048kB is always read.
 */
void counters_forget_knobs(void);
void counters_note_knob(const char *path, const char *value);
/* A scenario begins: all changes are 0 from here. */
void counters_reset(void);
/* True once since the last call if others made huge pages between two operations. */
int counters_heard_others(void);
/* Brackets around an operation. */
void counters_before(void);
void counters_after(void);
/* As counters_after, where the kernel tried `nr` times what should be tried once: failed splits are counted once (canary.h). */
void counters_after_tries(int nr);
/* As counters_after, for what takes longer than others can be kept quiet and touches no large folio: theirs are not counted. */
void counters_after_long(void);
/* Appends u32 n, n x s64 for vmstat, then the same for the stats, to the answer. */
void counters_put(void);
/* Adds to a counter that is counted elsewhere: full_scans. */
void counters_add(const char *name, int64_t change);
/* Change of one vmstat counter since the reset. */
int64_t counter_change(const char *name);

#endif
