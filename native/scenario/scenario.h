/*
 * The scenario under way: its processes, and what each verb of the caller does.
 */
#ifndef SCENARIO_SCENARIO_H
#define SCENARIO_SCENARIO_H

/* Sets up what all scenarios share. Once. */
void scenario_start(void);
/* Carries out the request that was received and answers it. */
void scenario_serve(void);
int scenario_is_open(void);

struct traced_event;
/* Keeps an event for the caller if it is of a process of the scenario: true then. */
int scenario_note_event(const struct traced_event *event);
/* Events kept and not yet asked for. */
int scenario_nr_events(void);

#endif
