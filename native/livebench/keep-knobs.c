/*
 * Sets kernel knobs for as long as its caller lives, then puts back what was there.
 *
 * Usage:  keep-knobs FILE=VALUE...
 * Writes "ready" when all are set; then reads its standard input, whose end (the caller closed it, or died in whatever
 * way) is the sign to restore. Ignores the signals that would end it before that. Exits 3 if a knob cannot be written.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct knob {
  const char *path;
  const char *value;
  char before[64];
  int is_set;
};

static int write_knob(const char *path, const char *value) {
  int fd = open(path, O_WRONLY);
  if (fd < 0) return -1;
  ssize_t n = write(fd, value, strlen(value));
  close(fd);
  return n < 0 ? -1 : 0;
}

/* The value of a knob; of one such as "always [madvise] never" the word in brackets. */
static int read_knob(const char *path, char *value, size_t size) {
  char text[256];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return -1;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return -1;
  text[n] = 0;
  text[strcspn(text, "\n")] = 0;
  char *from = strchr(text, '['), *to = from ? strchr(from, ']') : NULL;
  if (to) {
    *to = 0;
    snprintf(value, size, "%.*s", (int)size - 1, from + 1);
  } else {
    snprintf(value, size, "%.*s", (int)size - 1, text);
  }
  return 0;
}

int main(int argc, char **argv) {
  int nr = argc - 1, failed = 0;
  struct knob *knobs = calloc((size_t)nr + 1, sizeof *knobs);
  setsid();
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);

  for (int i = 0; i < nr && !failed; i++) {
    char *equals = strchr(argv[i + 1], '=');
    if (!equals) return 2;
    *equals = 0;
    knobs[i].path = argv[i + 1];
    knobs[i].value = equals + 1;
    if (read_knob(knobs[i].path, knobs[i].before, sizeof knobs[i].before) ||
        write_knob(knobs[i].path, knobs[i].value)) {
      fprintf(stderr, "%s: %s\n", knobs[i].path, strerror(errno));
      failed = 1;
    } else {
      knobs[i].is_set = 1;
    }
  }
  if (!failed) {
    char byte;
    if (write(1, "ready\n", 6) == 6)
      while (read(0, &byte, 1) != 0) {}
  }
  for (int i = nr - 1; i >= 0; i--)
    if (knobs[i].is_set) write_knob(knobs[i].path, knobs[i].before);
  return failed ? 3 : 0;
}
