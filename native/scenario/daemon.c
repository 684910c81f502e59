/*
 * One pass of khugepaged at a time, over the scenario's processes alone.
 *
 * The daemon sleeps for an hour; a write to scan_sleep_millisecs wakes it for one pass, which is over when the thread sleeps
 * again. Its list holds other programs too, so two processes of our own mark the scenario's place in it:
 *
 *     others ...  front  [the scenario's]  sink
 *
 * front: registered before the scenario's processes exist, with one region that has no page table. With a budget of one page a
 *        pass ends right behind a region, so the daemon can be brought to it and, by one more, past it.
 * sink:  registered at the tail before a pass. It has more empty regions than any budget, so a pass that comes to the end of
 *        the scenario's processes spends the rest of its budget there and never laps. That is the end of the list, where the
 *        model's daemon counts a full scan and goes on at the front if its pass began in the middle; so do we, with what
 *        is left of the budget (exact for a budget of 1 and of whole regions).
 *
 * Whose region was examined is told by mm_khugepaged_scan_pmd (trace.c). Others who register while a scenario runs stand among its
 * processes; a region of theirs is noticed and the run is void.
 */
#define _GNU_SOURCE
#include "daemon.h"
#include "counters.h"
#include "lease.h"
#include "protocol.h"
#include "scenario.h"
#include "trace.h"
#include "undo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define THP "/sys/kernel/mm/transparent_hugepage/"
#define KHUGEPAGED THP "khugepaged/"
#define MARK 0x700000000000ul
#define SINK_BYTES (64ul << 30)
#define PARKED_MS "3600000"
#define PASS_DEADLINE_US 10000000
#define MAX_WAKES 20000
#define REGION_PAGES 512
#define AWAKE_NICE (-10)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

struct marker {
  pid_t pid; /* 0: none */
  char mm[MM_NAME_BYTES];
};

static struct marker front, sink;
/* Where the daemon goes on: at the list's head; at the end of the front's regions; anywhere behind the front. */
static enum { AT_HEAD, AT_FRONT, BEHIND_FRONT } cursor;
static pid_t daemon_pid;
static int has_met_others;
/* Behind the front there may be others, who registered when anybody's memory could be huge. */
static int may_be_others;

/* ---- The thread ------------------------------------------------------------------------------------------------ */

/* State letter of the thread, 0 if it is gone. */
static char daemon_state(void) {
  char path[64], text[256];
  if (!daemon_pid) return 0;
  snprintf(path, sizeof path, "/proc/%d/stat", daemon_pid);
  if (read_text(path, text, sizeof text) <= 0) return 0;
  char *end = strstr(text, "(khugepaged) ");
  return end ? end[strlen("(khugepaged) ")] : 0;
}

static pid_t find_thread(void) {
  DIR *dir = opendir("/proc");
  pid_t found = 0;
  for (struct dirent *file; dir && !found && (file = readdir(dir)) != NULL;) {
    char path[64], text[64];
    pid_t pid = atoi(file->d_name);
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    if (pid > 2 && read_text(path, text, sizeof text) > 0 && !strcmp(text, "khugepaged\n"))
      found = pid;
  }
  if (dir) closedir(dir);
  return found;
}

/* True if the daemon runs. A new thread begins at the list's head. It gets its turn before what merely computes. */
static int find_daemon(void) {
  if (daemon_state()) return 1;
  cursor = AT_HEAD;
  daemon_pid = find_thread();
  if (!daemon_pid) return 0;
  char nice[16];
  snprintf(nice, sizeof nice, "%d", getpriority(PRIO_PROCESS, (id_t)daemon_pid));
  if (undo_note(UNDO_NICE, daemon_pid, "", nice))
    setpriority(PRIO_PROCESS, (id_t)daemon_pid, AWAKE_NICE);
  return 1;
}

static int await_sleep(void) {
  for (int us = 0; us < PASS_DEADLINE_US; us += 50) {
    char state = daemon_state();
    if (state == 0 || state == 'S') return 0;
    usleep(50);
  }
  return FAILED_STUCK;
}

/* One pass of the thread with a budget of `pages`. */
static int wake(unsigned long pages) {
  char text[32];
  snprintf(text, sizeof text, "%lu", pages);
  int error = write_text(KHUGEPAGED "pages_to_scan", text);
  if (!error) error = write_text(KHUGEPAGED "scan_sleep_millisecs", PARKED_MS);
  return error ? error : await_sleep();
}

/* ---- Markers --------------------------------------------------------------------------------------------------- */

/* Registers at madvise, because it has touched a page before: the one in front of the first region. */
static void become_marker(size_t bytes) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  close_range(0, ~0u, 0);
  char *page = mmap((void *)(MARK - PAGE), PAGE + bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  if (page == MAP_FAILED) _exit(1);
  *page = 1;
  madvise(page, PAGE + bytes, MADV_HUGEPAGE);
  // Refused, and the event of it says how the tracepoint names this address space.
  madvise((void *)MARK, HUGE, MADV_COLLAPSE);
  for (;;) pause();
}

static int start_marker(struct marker *marker, size_t bytes) {
  trace_flush();
  pid_t pid = fork();
  if (pid < 0) return -errno;
  if (pid == 0) become_marker(bytes);
  for (int us = 0; us < PASS_DEADLINE_US; us += 50) {
    struct traced_event event;
    while (trace_next(&event)) {
      if (event.pid != pid) continue;
      *marker = (struct marker){.pid = pid};
      memcpy(marker->mm, event.mm, sizeof marker->mm);
      return 0;
    }
    usleep(50);
  }
  kill(pid, SIGKILL);
  return FAILED_STUCK;
}

/* Gone from the list when it is gone; the daemon steps over one that it stands at. */
static void stop_marker(struct marker *marker) {
  if (!marker->pid) return;
  kill(marker->pid, SIGKILL);
  for (int us = 0; us < PASS_DEADLINE_US && kill(marker->pid, 0) == 0; us += 50) usleep(50);
  *marker = (struct marker){0};
}

/* Brings the daemon to the end of the front's regions, from anywhere outside of the scenario's processes. */
static int go_to_front(void) {
  for (int i = 0; i < MAX_WAKES; i++) {
    struct traced_event event;
    int error = wake(1), is_there = 0;
    if (error) return error;
    while (trace_next(&event)) is_there |= !strcmp(event.mm, front.mm);
    if (is_there) {
      cursor = AT_FRONT;
      return 0;
    }
  }
  return FAILED_FACILITY;
}

int daemon_park(void) {
  if (!trace_ready()) return 0;
  // Otherwise the front would not register.
  int error = knob_write(THP "enabled", "madvise");
  if (!error) error = knob_write(THP "hugepages-2048kB/enabled", "inherit");
  if (!error) error = start_marker(&front, HUGE);
  if (!error && find_daemon()) error = go_to_front();
  knob_rewrite(KHUGEPAGED "pages_to_scan");
  may_be_others = 0;
  return error;
}

void daemon_expect_others(void) { may_be_others = 1; }

int daemon_begin_scenario(void) {
  if (!may_be_others || !trace_ready()) return 0;
  stop_marker(&front);
  return daemon_park();
}

void daemon_unpark(void) {
  stop_marker(&sink);
  stop_marker(&front);
  daemon_pid = 0;
}

void daemon_before_knob(void) { write_text(KHUGEPAGED "pages_to_scan", "1"); }

void daemon_after_knob(void) {
  if (!daemon_state() && find_daemon()) await_sleep();
  knob_rewrite(KHUGEPAGED "pages_to_scan");
}

/* ---- A pass ---------------------------------------------------------------------------------------------------- */

struct tally {
  long nr_ours;
  long nr_sink;
};

static void count_events(struct tally *tally) {
  struct traced_event event;
  while (trace_next(&event)) {
    int is_scan = !strncmp(event.text, "mm_khugepaged_scan_pmd", 22);
    if (!strcmp(event.mm, sink.mm)) tally->nr_sink++;
    else if (scenario_note_event(&event)) tally->nr_ours += is_scan;
    else has_met_others = 1;
  }
}

/* Past the front, with a sink behind everybody. */
static int enter(void) {
  int error = sink.pid ? 0 : start_marker(&sink, SINK_BYTES);
  if (!error && cursor == AT_FRONT) {
    error = wake(1);
    cursor = BEHIND_FRONT;
  }
  trace_flush();
  return error;
}

static int return_to_front(void) {
  stop_marker(&sink);
  return go_to_front();
}

/* What the daemon counts on its way to the sink's first region: a visit, and each VMA below. */
static unsigned long sink_cost(void) {
  static char maps[16384];
  char path[64];
  unsigned long cost = 1;
  snprintf(path, sizeof path, "/proc/%d/maps", sink.pid);
  int n = read_text(path, maps, sizeof maps);
  for (char *line = maps; n > 0 && *line; line += strcspn(line, "\n"), line += *line == '\n')
    cost += strtoul(line, NULL, 16) < MARK - PAGE;
  return cost;
}

/*
 * Whether anybody of the scenario is registered, where a pass examined no region of it: with a budget of two regions less
 * what one visit costs, the sink gets two if nobody stands before it, else one.
 */
static int is_anybody_there(int *is_there) {
  struct tally tally = {0};
  int error = enter();
  if (!error) error = wake(REGION_PAGES + 1 + sink_cost());
  count_events(&tally);
  *is_there = tally.nr_sink < 2;
  return error ? error : return_to_front();
}

static int counted_wake(unsigned long pages, struct tally *tally) {
  counters_before();
  int error = wake(pages);
  counters_after();
  count_events(tally);
  return error;
}

/*
 * With a budget of less than a region a pass ends with one region or at the end of one process. Nothing need stop it behind the
 * scenario's processes then, and a lap shows at once.
 */
static int small_pass(unsigned long budget) {
  struct tally tally = {0};
  long before = read_number(KHUGEPAGED "full_scans");
  int error = 0;
  if (cursor == AT_FRONT) {
    error = wake(1);
    cursor = BEHIND_FRONT;
    trace_flush();
    // Nobody is behind the front.
    if (!error && read_number(KHUGEPAGED "full_scans") != before) return go_to_front();
  }
  if (!error) error = counted_wake(budget, &tally);
  long change = read_number(KHUGEPAGED "full_scans") - before;
  if (error || change == 0) return error;
  counters_add("full_scans", change);
  return go_to_front();
}

static int make_pass(unsigned long budget) {
  int error = 0, laps = cursor == AT_FRONT;
  unsigned long left = budget;
  for (int is_over = 0; !error && !is_over;) {
    struct tally tally = {0};
    error = enter();
    if (!error) error = counted_wake(left, &tally);
    if (error || tally.nr_sink == 0) return error;
    error = return_to_front();
    unsigned long used = (unsigned long)tally.nr_ours * REGION_PAGES + 1;
    is_over = ++laps > 1 || used >= left;
    left -= is_over ? 0 : used;
  }
  return error;
}

/* The sink and the front are in the list; without them an empty list is not scanned and no lap of it counts. */
static int whole_pass(unsigned long budget) {
  long full_scans = read_number(KHUGEPAGED "full_scans");
  int from_front = cursor == AT_FRONT, nr_before = scenario_nr_events(), is_there = 1;
  int error = make_pass(budget);
  long change = read_number(KHUGEPAGED "full_scans") - full_scans;
  if (!error && from_front && cursor == AT_FRONT && scenario_nr_events() == nr_before)
    error = is_anybody_there(&is_there);
  if (is_there) counters_add("full_scans", change);
  return error;
}

int daemon_pass(char *why, int size) {
  snprintf(why, (size_t)size, "khugepaged does not come to rest");
  if (!trace_ready()) {
    snprintf(why, (size_t)size, "without tracefs nobody can tell where khugepaged is");
    return FAILED_FACILITY;
  }
  if (!find_daemon()) return 0;
  char budget[32];
  int n = read_text(KHUGEPAGED "pages_to_scan", budget, sizeof budget);
  if (n <= 0) return n;
  unsigned long pages = strtoul(budget, NULL, 10);
  int error = cursor == AT_HEAD ? go_to_front() : 0;
  if (!error) error = pages < REGION_PAGES ? small_pass(pages) : whole_pass(pages);
  knob_rewrite(KHUGEPAGED "pages_to_scan");
  return error;
}

void daemon_settle(void) { stop_marker(&sink); }

void daemon_end_scenario(void) {
  // At one of its processes, which are gone: a visit of it would count.
  if (cursor == BEHIND_FRONT && find_daemon()) go_to_front();
  knob_rewrite(KHUGEPAGED "pages_to_scan");
}

int daemon_met_others(void) {
  int has_met = has_met_others;
  has_met_others = 0;
  return has_met;
}
