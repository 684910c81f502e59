/*
 * A process that does one memory operation per line of standard input, so that a test can look at it from outside between
 * two of them. Used by the live tests of src/conformance.
 *
 *     NAME A B C D          numbers decimal or 0x...
 *
 * map ADDRESS BYTES PROT FLAGS | unmap ADDRESS BYTES | read ADDRESS PAGES | write ADDRESS PAGES | madvise ADDRESS BYTES ADVICE
 * mprotect ADDRESS BYTES PROT | mlock ADDRESS BYTES | mlock2 ADDRESS BYTES FLAGS | munlock ADDRESS BYTES | prctl OPTION A B | fork | reap PID | drain
 *
 * Answers with the result, or minus the errno. A forked child only waits; it dies with its parent, as that one does at the
 * end of its input. drain empties every CPU's batches of pages on their way to the LRU lists. Everything goes through one
 * page of buffer that is touched at the start, so that the process's own memory does not grow meanwhile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define HUGE (2ul << 20)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static char line[PAGE];

static long touch(uintptr_t address, unsigned long pages, int writes) {
  for (unsigned long i = 0; i < pages; i++) {
    volatile char *at = (volatile char *)(address + i * PAGE);
    if (writes)
      *at = 1;
    else
      (void)*at;
  }
  return 0;
}

static long fork_waiting(void) {
  pid_t parent = getpid();
  pid_t child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);
  for (;;) pause();
}

/* 2 MiB that are collapsed: collapsing them again only drains. */
static char *scratch;

static void make_scratch(void) {
  char *at = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return;
  scratch = (char *)(((uintptr_t)at + HUGE - 1) & -HUGE);
  memset(scratch, 1, HUGE);
  madvise(scratch, HUGE, MADV_COLLAPSE);
}

static long reap(pid_t child) {
  if (kill(child, SIGKILL) != 0) return -1;
  return waitpid(child, NULL, 0) == child ? 0 : -1;
}

/* Arguments are in a[0..3]; the result is that of the system call. */
static long perform(const char *name, const unsigned long *a) {
  void *at = (void *)a[0];
  if (!strcmp(name, "map"))
    return (long)mmap(at, a[1], (int)a[2], (int)a[3], -1, 0) == -1 ? -1 : 0;
  if (!strcmp(name, "unmap")) return munmap(at, a[1]);
  if (!strcmp(name, "read")) return touch(a[0], a[1], 0);
  if (!strcmp(name, "write")) return touch(a[0], a[1], 1);
  if (!strcmp(name, "madvise")) return madvise(at, a[1], (int)a[2]);
  if (!strcmp(name, "mprotect")) return mprotect(at, a[1], (int)a[2]);
  if (!strcmp(name, "mlock")) return mlock(at, a[1]);
  if (!strcmp(name, "mlock2")) return syscall(SYS_mlock2, at, a[1], a[2]);
  if (!strcmp(name, "munlock")) return munlock(at, a[1]);
  if (!strcmp(name, "prctl")) return prctl((int)a[0], a[1], a[2], 0, 0);
  if (!strcmp(name, "fork")) return fork_waiting();
  if (!strcmp(name, "reap")) return reap((pid_t)a[0]);
  if (!strcmp(name, "drain")) return madvise(scratch, HUGE, MADV_COLLAPSE);
  errno = ENOSYS;
  return -1;
}

/* Reads one line without its newline; 0 at the end of input. */
static int next_line(void) {
  size_t length = 0;
  while (length < sizeof line - 1) {
    ssize_t got = read(0, line + length, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    if (line[length] == '\n') break;
    length++;
  }
  line[length] = 0;
  return 1;
}

int main(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  memset(line, ' ', sizeof line);
  make_scratch();
  while (next_line()) {
    unsigned long a[4] = {0};
    char *rest = strchr(line, ' ');
    if (rest) *rest++ = 0;
    for (int i = 0; rest && i < 4; i++) a[i] = strtoul(rest, &rest, 0);
    errno = 0;
    long result = perform(line, a);
    if (result == -1) result = -errno;
    int length = snprintf(line, sizeof line, "%ld\n", result);
    if (write(1, line, (size_t)length) != length) return 1;
  }
  return 0;
}
