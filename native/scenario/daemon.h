/*
 * The kernel's khugepaged as a machine that makes one pass when it is told to. daemon.c says how.
 */
#ifndef SCENARIO_DAEMON_H
#define SCENARIO_DAEMON_H

#include <stdint.h>

/* Under a new lease, while no scenario has a process: parks the daemon in front of what will register from here on. 0 or -errno. */
int daemon_park(void);
/* The lease ends: what daemon_park made is gone. */
void daemon_unpark(void);
/* Around a write that may start the daemon, which begins with a pass: that pass stays in front of the scenario. */
void daemon_before_knob(void);
void daemon_after_knob(void);
/* One pass with the knobs as they stand, counted. 0, -errno or a failure, of which `why` says more. */
int daemon_pass(char *why, int size);
/* After the last pass of a statement, before anybody else registers. */
void daemon_settle(void);
/* From here on others may register with the daemon. */
void daemon_expect_others(void);
/* Before a scenario has a process: the front stands behind all others again. 0 or -errno. */
int daemon_begin_scenario(void);
/* The scenario's processes are gone. */
void daemon_end_scenario(void);
/* True once if memory that is not the scenario's was among it. */
int daemon_met_others(void);

#endif
