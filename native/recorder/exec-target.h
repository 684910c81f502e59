/*
 * What an execve of a path would run: an x86-64 ELF program, perhaps through one or more "#!" lines.
 *
 * Used by the launcher for the command and by the plugin for what the program itself starts.
 */
#ifndef RECORDER_EXEC_TARGET_H
#define RECORDER_EXEC_TARGET_H

#include "control.h"

enum target_verdict {
  TARGET_RUNS,    /* program and prefix are set */
  TARGET_FAILS,   /* execve would fail, or has a reason of its own: leave it to the kernel */
  TARGET_FOREIGN, /* a program of another architecture */
};

#define MAX_PREFIX 8

struct exec_target {
  char program[PATH_BYTES];
  /* For scripts: arguments between argv[0] and argv[1]; nr_prefix > 0 means argv[0] is `program` itself. */
  char prefix[MAX_PREFIX][PATH_BYTES];
  int nr_prefix;
};

enum target_verdict exec_target(const char *path, struct exec_target *to);

#endif
