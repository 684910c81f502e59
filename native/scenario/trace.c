/*
 * A tracefs instance with the huge_memory events on, read as text without waiting.
 *
 * Order: the kernel emits isolate (which names no mm) before the event of the collapse that it is part of, in the same context;
 *        an isolate event is therefore kept until the next event of its context.
 */
#define _GNU_SOURCE
#include "trace.h"
#include "undo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRACE_BYTES 65536
#define MAX_KEPT 8

static int pipe_fd; /* 0: not tried yet; -1: there is no tracefs */
static char bytes[TRACE_BYTES];
static int nr_bytes, at_byte;
/* Isolate events whose collapse has not ended, and the event that ended one. */
static struct traced_event kept[MAX_KEPT];
static int nr_kept;
static struct traced_event after;
static int has_after;

static int make_instance(const char *root) {
  char path[128], file[200];
  snprintf(path, sizeof path, "%s/instances/hugelab-%d", root, getpid());
  struct undo_entry *entry = undo_note(UNDO_TRACE, 0, path, "");
  if (!entry) return -1;
  if (mkdir(path, 0700)) {
    undo_forget(entry);
    return -1;
  }
  snprintf(file, sizeof file, "%s/events/huge_memory/enable", path);
  if (write_text(file, "1")) return -1;
  snprintf(file, sizeof file, "%s/trace_pipe", path);
  return open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

int trace_ready(void) {
  if (pipe_fd == 0) {
    pipe_fd = make_instance("/sys/kernel/tracing");
    if (pipe_fd < 0) pipe_fd = make_instance("/sys/kernel/debug/tracing");
  }
  return pipe_fd > 0;
}

void trace_stop(void) {
  if (pipe_fd > 0) close(pipe_fd);
  pipe_fd = -1;
}

/* The next whole line, without its end; NULL if there is none now. */
static char *next_line(void) {
  for (;;) {
    char *start = bytes + at_byte;
    char *end = memchr(start, '\n', (size_t)(nr_bytes - at_byte));
    if (end) {
      *end = 0;
      at_byte = (int)(end + 1 - bytes);
      return start;
    }
    memmove(bytes, start, (size_t)(nr_bytes - at_byte));
    nr_bytes -= at_byte;
    at_byte = 0;
    if (nr_bytes >= TRACE_BYTES - 1) nr_bytes = 0;
    ssize_t n = read(pipe_fd, bytes + nr_bytes, (size_t)(TRACE_BYTES - 1 - nr_bytes));
    if (n <= 0) return NULL;
    nr_bytes += (int)n;
  }
}

/* "  khugepaged-28 [000] ...1. 22883.12: mm_collapse_huge_page: mm=00000000a86581e5, isolated=1, ..." */
static int parse(char *line, struct traced_event *event) {
  char *cpu = strstr(line, " [");
  char *name = strstr(line, ": mm_");
  if (!cpu || !name) return 0;
  char *dash = cpu;
  while (dash > line && *dash != '-') dash--;
  event->pid = atoi(dash + 1);
  name += 2;
  char *fields = strstr(name, ": ");
  if (!fields) return 0;
  event->mm[0] = 0;
  fields += 2;
  char *rest = fields;
  if (!strncmp(fields, "mm=", 3)) {
    rest = fields + strcspn(fields, ",");
    snprintf(event->mm, sizeof event->mm, "%.*s", (int)(rest - fields - 3), fields + 3);
    rest += strspn(rest, ", ");
  }
  snprintf(event->text, sizeof event->text, "%.*s%s", (int)(fields - name), name, rest);
  return 1;
}

/* Gives out what is kept of the context of `after`, then `after` itself. */
static int take_kept(struct traced_event *event) {
  for (int i = 0; i < nr_kept; i++) {
    if (kept[i].pid != after.pid) continue;
    *event = kept[i];
    memcpy(event->mm, after.mm, sizeof event->mm);
    memmove(kept + i, kept + i + 1, (size_t)(--nr_kept - i) * sizeof kept[0]);
    return 1;
  }
  *event = after;
  has_after = 0;
  return 1;
}

int trace_next(struct traced_event *event) {
  if (!trace_ready()) return 0;
  while (!has_after) {
    char *line = next_line();
    if (!line) return 0;
    struct traced_event parsed;
    if (!parse(line, &parsed)) continue;
    if (parsed.mm[0]) {
      after = parsed;
      has_after = 1;
    } else if (nr_kept < MAX_KEPT) {
      kept[nr_kept++] = parsed;
    }
  }
  return take_kept(event);
}

void trace_flush(void) {
  struct traced_event event;
  while (trace_next(&event)) {}
  nr_kept = 0;
}
