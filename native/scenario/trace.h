/*
 * Events of huge_memory tracepoints, of the scenario's processes alone, through a tracefs instance of our own.
 */
#ifndef SCENARIO_TRACE_H
#define SCENARIO_TRACE_H

#include <stdint.h>
#include <sys/types.h>

#define MM_NAME_BYTES 24

struct traced_event {
  char mm[MM_NAME_BYTES]; /* as the tracepoint prints it; of an isolate event, that of the collapse it belongs to */
  pid_t pid;              /* in whose context it was emitted */
  char text[224];         /* "mm_khugepaged_scan_pmd: scan_pfn=..., status=succeeded, unmapped=0": without the mm */
};

/* Makes the instance at the first call. True if there is one. */
int trace_ready(void);
/* The next event that was not taken yet; 0 if there is none. Those that belong to no address space are left out. */
int trace_next(struct traced_event *event);
/* Takes all there are. */
void trace_flush(void);
/* Before the end: the instance can be removed only when nobody reads it. */
void trace_stop(void);

#endif
