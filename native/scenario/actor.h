/*
 * A process of the scenario: waits for one operation, does it, says what came of it.
 */
#ifndef SCENARIO_ACTOR_H
#define SCENARIO_ACTOR_H

#include <stdint.h>

/* To be called once in the supervisor, before any actor exists: finds out what memory is the program's own. */
void actor_prepare(void);
/* Turns the calling process (just forked) into the actor of a channel. Does not return. */
void actor_become(uint32_t channel) __attribute__((noreturn));

#endif
