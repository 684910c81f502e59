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

#endif
