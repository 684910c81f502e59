/*
 * Frames to and from the caller: reading fields of a request, appending fields of an answer.
 *
 * Owns:  one buffer each, outside of what actors inherit.
 * Errors: a request that is shorter than its fields, or an answer that outgrows its buffer, ends the supervisor: the
 *         caller is of another version.
 */
#ifndef SCENARIO_WIRE_H
#define SCENARIO_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* Memory of the supervisor alone: actors do not inherit it. */
void *private_memory(size_t bytes);

void wire_start(void);
/* Waits for a request: 1, 0 at the end of input, -1 after `timeout_ms` without one (-1: for ever). */
int wire_receive(int timeout_ms);
uint32_t take_u32(void);
uint64_t take_u64(void);
/* Into `text`, cut to its size, NUL-terminated. */
void take_string(char *text, size_t size);

void answer_begin(int32_t status);
void put_u32(uint32_t value);
void put_u64(uint64_t value);
void put_bytes(const void *bytes, size_t size);
void put_string(const char *text);
/* Room for `size` bytes at a multiple of 8 from the frame's length field, zeroed, to be filled in place. */
void *put_room(size_t size);
void answer_send(void);

#endif
