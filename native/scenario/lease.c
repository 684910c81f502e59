/*
 * Lock, quiet, knobs.
 *
 * Quiet: khugepaged is parked (daemon.c) and there are enough free blocks of 2 MiB.
 * Holds: this process never registers with khugepaged, for its children would be registered with it.
 */
#define _GNU_SOURCE
#include "lease.h"
#include "daemon.h"
#include "protocol.h"
#include "undo.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define THP "/sys/kernel/mm/transparent_hugepage/"
#define BLOCKS_WANTED 64
#define MAX_KNOBS 64

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Knobs written under this lease and what they hold, so that equal scenarios write nothing. */
static struct {
  char path[160];
  char value[256];
} knobs[MAX_KNOBS];
static int nr_knobs;

static int lock_fd, is_held;
static double taken_ms;
static char *scratch;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int lease_open(const char *path) {
  lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  return lock_fd < 0 ? -errno : lock_fd;
}

int lease_is_held(void) { return is_held; }

/* ---- Knobs ----------------------------------------------------------------------------------------------------- */

int knob_read(const char *path, char *value, int size) {
  int n = read_text(path, value, size);
  if (n > 0 && value[n - 1] == '\n') value[n - 1] = 0;
  return n < 0 ? n : 0;
}

/* What must be written to get back what reads as `text`: the bracketed word of "always [madvise] never". */
static void chosen(char *text) {
  char *from = strchr(text, '['), *to = from ? strchr(from, ']') : NULL;
  if (!to) return;
  *to = 0;
  memmove(text, from + 1, strlen(from + 1) + 1);
}

static int knob_index(const char *path) {
  for (int i = 0; i < nr_knobs; i++)
    if (!strcmp(knobs[i].path, path)) return i;
  return -1;
}

/* Notes what a knob holds before its first change. Its index, or -errno. */
static int knob_note(const char *path) {
  char before[256];
  int error = knob_read(path, before, sizeof before);
  if (error) return error;
  chosen(before);
  if (nr_knobs == MAX_KNOBS || !undo_note(UNDO_KNOB, 0, path, before)) return -ENOSPC;
  snprintf(knobs[nr_knobs].path, sizeof knobs[0].path, "%s", path);
  snprintf(knobs[nr_knobs].value, sizeof knobs[0].value, "%s", before);
  return nr_knobs++;
}

static int is_withheld;

static int is_for_all(int at) {
  return !strcmp(knobs[at].value, "always") && strstr(knobs[at].path, "/enabled");
}

int knob_write(const char *path, const char *value) {
  if (strstr(path, "..") || (strncmp(path, THP, strlen(THP)) && strncmp(path, "/proc/sys/vm/", 13)))
    return -EPERM;
  int at = knob_index(path);
  if (at < 0) at = knob_note(path);
  if (at < 0) return at;
  if (!strcmp(knobs[at].value, value)) return 0;
  int error = write_text(path, value);
  char now[256];
  if (knob_read(path, now, sizeof now) == 0) {
    chosen(now);
    snprintf(knobs[at].value, sizeof knobs[0].value, "%s", now);
  }
  if (is_withheld && is_for_all(at)) write_text(path, "madvise");
  return error;
}

void knob_rewrite(const char *path) {
  int at = knob_index(path);
  if (at >= 0) write_text(path, knobs[at].value);
}

void knobs_lend(void) {
  is_withheld = 0;
  for (int i = 0; i < nr_knobs; i++)
    if (is_for_all(i)) write_text(knobs[i].path, knobs[i].value);
}

void knobs_withhold(void) {
  is_withheld = 1;
  for (int i = 0; i < nr_knobs; i++)
    if (is_for_all(i)) write_text(knobs[i].path, "madvise");
}

/* ---- Quiet ----------------------------------------------------------------------------------------------------- */

void drain_lru(void) { madvise(scratch, HUGE, MADV_COLLAPSE); }

static void map_scratch(void) {
  // No advice for or against huge pages: a huge fault would register this process, and collapse must be allowed.
  char *area = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) _exit(3);
  madvise(area, 2 * HUGE, MADV_DONTFORK);
  scratch = (char *)(((uintptr_t)area + HUGE - 1) & ~(HUGE - 1));
  memset(scratch, 1, HUGE);
  drain_lru();
}

void split_folios_of_others(void) {
  static long nr_that_stay; /* somebody holds them */
  long nr = read_number(THP "hugepages-2048kB/stats/nr_anon_partially_mapped");
  if (nr > nr_that_stay) {
    write_text("/proc/sys/vm/drop_caches", "2");
    nr = read_number(THP "hugepages-2048kB/stats/nr_anon_partially_mapped");
  }
  nr_that_stay = nr;
}

static long free_blocks(void) {
  static char text[8192];
  long blocks = 0;
  int n = read_text("/proc/buddyinfo", text, sizeof text);
  for (char *line = text; n > 0 && *line;) {
    char *end = line + strcspn(line, "\n"), *at = strstr(line, "zone");
    long orders[16] = {0};
    int order = 0;
    if (at && at < end) at += 4 + strspn(at + 4, " "), at += strcspn(at, " ");
    for (; at && at < end && order < 16; order++) orders[order] = strtol(at, &at, 10);
    for (int i = 9; i < order; i++) blocks += orders[i] << (i - 9);
    line = *end ? end + 1 : end;
  }
  return blocks;
}

static int quiet(char *why, int size) {
  // The scan under way ends first; the write itself starts a last, short one.
  int error = knob_write(THP "khugepaged/pages_to_scan", "1");
  if (!error) error = knob_write(THP "khugepaged/scan_sleep_millisecs", "3600000");
  if (!error) error = knob_write(THP "khugepaged/alloc_sleep_millisecs", "3600000");
  if (error) {
    snprintf(why, (size_t)size, "khugepaged cannot be parked");
    return error;
  }
  if (!scratch) map_scratch();
  usleep(20000);
  drain_lru();
  error = daemon_park();
  if (error) {
    snprintf(why, (size_t)size, "khugepaged cannot be brought to a known place in its list");
    return error;
  }
  if (free_blocks() < BLOCKS_WANTED) write_text("/proc/sys/vm/compact_memory", "1");
  if (free_blocks() >= BLOCKS_WANTED) return 0;
  snprintf(why, (size_t)size, "fewer than %d free blocks of 2 MiB", BLOCKS_WANTED);
  return FAILED_MEMORY;
}

/* ---- Lock ------------------------------------------------------------------------------------------------------ */

int lease_take(int wait_s, char *why, int size) {
  if (is_held) return 0;
  double give_up = now_ms() + wait_s * 1e3;
  while (flock(lock_fd, LOCK_EX | LOCK_NB)) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      snprintf(why, (size_t)size, "the lock cannot be taken");
      return -errno;
    }
    if (now_ms() > give_up) {
      snprintf(why, (size_t)size, "another program has held the lock for %d s", wait_s);
      return FAILED_LOCK;
    }
    usleep(3000);
  }
  is_held = 1;
  taken_ms = now_ms();
  int error = quiet(why, size);
  if (error) lease_end_if_older(0);
  return error;
}

void lease_end_if_older(int age_ms) {
  if (!is_held || now_ms() - taken_ms < age_ms) return;
  daemon_unpark();
  undo_lease();
  nr_knobs = 0;
  is_held = 0;
  flock(lock_fd, LOCK_UN);
  // flock is not fair: whoever waits gets his turn before this process asks again.
  usleep(10000);
}
