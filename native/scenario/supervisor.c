/*
 * Carries out scenarios on the running kernel for src/cli/kernel-supervisor.ts, one statement at a time.
 *
 * Usage: supervisor LOCKFILE      frames of protocol.h on standard input and output
 *
 * Parts: wire.c frames; lease.c lock, quiet and knobs; undo.c journal and watchdog; actor.c the scenario's processes; observe.c
 *        and counters.c what is seen of them; hush.c keeps others still; trace.c tracepoints; daemon.c khugepaged; canary.c counts tries; facilities.c zram and memory cgroups; scenario.c the
 *        verbs. This file starts them and reads requests.
 *
 * Liveness: an actor has DEADLINE_MS for an operation, then it and its siblings are killed and the caller is told. A caller
 *           that says nothing for IDLE_OPEN_MS in the middle of a scenario loses it and the lock. Between scenarios the
 *           lock is given back after IDLE_MS, in any case after LEASE_MS.
 */
#define _GNU_SOURCE
#include "actor.c"
#include "canary.c"
#include "counters.c"
#include "daemon.c"
#include "facilities.c"
#include "hush.c"
#include "lease.c"
#include "observe.c"
#include "scenario.c"
#include "trace.c"
#include "undo.c"
#include "wire.c"

#include <sys/personality.h>

#define IDLE_MS 40
#define IDLE_OPEN_MS 60000
#define LEASE_MS 3000

/* Equal layouts in every run, and memory of its own that no huge page can back. */
static void restart_without_randomization(char **argv) {
  int persona = personality(0xffffffff);
  if (persona & ADDR_NO_RANDOMIZE) return;
  personality((unsigned long)persona | ADDR_NO_RANDOMIZE);
  execv("/proc/self/exe", argv);
}

static void start(const char *lock_path) {
  setsid();
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  int fd = lease_open(lock_path);
  if (fd < 0) _exit(3);
  hush_start();
  undo_start(fd);
  wire_start();
  counters_start();
  observe_start();
  scenario_start();
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  restart_without_randomization(argv);
  start(argv[1]);
  for (;;) {
    int timeout = scenario_is_open() ? IDLE_OPEN_MS : lease_is_held() ? IDLE_MS : -1;
    int got = wire_receive(timeout);
    if (got == 0) break;
    if (got < 0) {
      if (scenario_is_open()) break;
      lease_end_if_older(0);
      continue;
    }
    scenario_serve();
    if (!scenario_is_open()) lease_end_if_older(LEASE_MS);
  }
  // The watchdog would do it as well; here it is done before the caller sees the end.
  daemon_unpark();
  trace_stop();
  undo_all();
  return 0;
}
