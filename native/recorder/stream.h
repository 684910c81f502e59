/*
 * Appends events to the shared ring. All functions but stream_attach need the stream's lock.
 *
 * An event is begun, its numbers are put, and it is ended: only then it is in the ring, whole.
 */
#ifndef RECORDER_STREAM_H
#define RECORDER_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "control.h"

extern struct control *control;

/* Maps the control block behind `path`; false if it is not one. */
bool stream_attach(const char *path);

void stream_lock(void);
void stream_unlock(void);
/* Gives up a lock that this thread took in the program it was before exec. */
void stream_unlock_after_exec(void);
/* True if the calling thread holds the lock (of this program, or of the one before exec). */
bool stream_is_mine(void);

/* Begins an event. Writes the pending run of touches and the time first. */
void stream_begin(enum event event);
void stream_put(uint64_t value);
void stream_put_signed(int64_t value);
void stream_put_text(const char *text);
void stream_end(void);

/* A page is read or written for the first time: grows the pending run or starts the next one. */
void stream_touch(uint32_t thread, bool is_write, uint64_t page);
/* Writes the pending run of touches. */
void stream_flush_run(void);
/* A sentence for the report, under the lock or not. */
void stream_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
