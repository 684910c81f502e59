/*
 * Keeps everybody else off the processors while an operation runs, so that global counters show this operation alone.
 *
 * Needed only while a knob lets memory be huge that nobody advised: then every process of the host makes huge pages.
 */
#ifndef SCENARIO_HUSH_H
#define SCENARIO_HUSH_H

#include <sys/types.h>

/* Pins the caller, and what it forks, to one processor and starts a helper on each of the others. Once. */
void hush_start(void);
/* From here to hush_need(0) operations are hushed: `pids` (ended by 0) are those that run on, besides the caller. */
void hush_need(int is_needed, const pid_t *pids);
void hush_on(void);
void hush_off(void);

#endif
