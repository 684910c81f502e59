/*
 * Runs a command once and says what it took: the measuring half of `npm run accuracy`.
 *
 * Usage:  launch never|asis DRIVER PROGRAM ARGS...
 * never switches huge pages off for the program and its children (prctl); asis leaves the kernel's setting.
 * DRIVER, if not empty, is a shell command that runs beside the program (HUGELAB_PID tells its process id); when it ends,
 * the program is asked to end by SIGTERM.
 * Prints one JSON object on descriptor 3. Peak RSS is that of the largest process, as wait4 has it.
 *
 * What would be measured besides the program is kept away from it:
 * - It runs on the last CPU with real-time priority (in turns with its own children), so that other work of the host neither
 *   interrupts it nor empties the caches of its CPU. Where that is not allowed "realTime" is 0. The driver runs as usual.
 * - Huge pages of WARM_BYTES are written and freed before. A hypervisor backs memory when it is first touched, which takes
 *   milliseconds for 2 MiB; free memory that a setting happens to be the first to use would count as its cost.
 * "framesTogether" says how new 4K pages then lie in the machine's memory: how many neighbours share an aligned group of
 * eight frames, a line of the hypervisor's tables. It changes with what ran before. 0 without root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double ms_of(struct timeval t) { return (double)t.tv_sec * 1e3 + (double)t.tv_usec / 1e3; }

#define HUGE_BYTES ((size_t)2 << 20)
#define WARM_BYTES ((size_t)384 << 20)
#define PRIORITY 50

static void back_memory(void) {
  char *reserved = mmap(NULL, WARM_BYTES + HUGE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return;
  char *start = (char *)(((uintptr_t)reserved + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
  madvise(start, WARM_BYTES, MADV_HUGEPAGE);
  for (size_t at = 0; at < WARM_BYTES; at += HUGE_BYTES) *(volatile char *)(start + at) = 1;
  munmap(reserved, WARM_BYTES + HUGE_BYTES);
}

#define PAGE_BYTES ((size_t)4096)
#define PROBE_PAGES 8192

static double frames_together(void) {
  static uint64_t entries[PROBE_PAGES];
  char *p = mmap(NULL, PROBE_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return 0;
  madvise(p, PROBE_PAGES * PAGE_BYTES, MADV_NOHUGEPAGE);
  for (size_t at = 0; at < PROBE_PAGES * PAGE_BYTES; at += PAGE_BYTES) *(volatile char *)(p + at) = 1;
  int fd = open("/proc/self/pagemap", O_RDONLY);
  off_t from = (off_t)((uintptr_t)p / PAGE_BYTES * sizeof *entries);
  ssize_t got = fd < 0 ? -1 : pread(fd, entries, sizeof entries, from);
  if (fd >= 0) close(fd);
  munmap(p, PROBE_PAGES * PAGE_BYTES);
  if (got != (ssize_t)sizeof entries) return 0;
  const uint64_t frame = (UINT64_C(1) << 55) - 1;
  if ((entries[0] & frame) == 0) return 0;
  size_t groups = 1;
  for (size_t i = 1; i < PROBE_PAGES; i++) groups += (entries[i] & frame) / 8 != (entries[i - 1] & frame) / 8;
  return (double)PROBE_PAGES / (double)groups;
}

/* The CPUs that this process may use. */
static cpu_set_t usual_cpus;

/* On the last of them, before everything of usual priority; returns whether that was allowed. */
static int set_apart(void) {
  sched_getaffinity(0, sizeof usual_cpus, &usual_cpus);
  int last = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &usual_cpus)) last = cpu;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  struct sched_param param = {.sched_priority = PRIORITY};
  return sched_setaffinity(0, sizeof one, &one) == 0 && sched_setscheduler(0, SCHED_RR, &param) == 0;
}

static void be_usual(void) {
  struct sched_param param = {.sched_priority = 0};
  sched_setscheduler(0, SCHED_OTHER, &param);
  sched_setaffinity(0, sizeof usual_cpus, &usual_cpus);
}

static void drive(const char *driver, pid_t program) {
  char pid[32];
  snprintf(pid, sizeof pid, "%d", program);
  setenv("HUGELAB_PID", pid, 1);
  pid_t shell = fork();
  if (shell == 0) {
    be_usual();
    execl("/bin/sh", "sh", "-c", driver, (char *)NULL);
    _exit(127);
  }
  int status;
  waitpid(shell, &status, 0);
  if (status != 0) fprintf(stderr, "launch: the driver ended with status %d\n", status);
  kill(program, SIGTERM);
}

int main(int argc, char **argv) {
  if (argc < 4 || (strcmp(argv[1], "never") && strcmp(argv[1], "asis"))) {
    fprintf(stderr, "usage: launch never|asis DRIVER PROGRAM ARGS...\n");
    return 2;
  }
  fcntl(3, F_SETFD, FD_CLOEXEC);
  int real_time = set_apart();
  back_memory();
  double together = frames_together();
  double start = now_ms();
  pid_t program = fork();
  if (program == 0) {
    if (prctl(PR_SET_THP_DISABLE, strcmp(argv[1], "never") == 0, 0, 0, 0)) _exit(126);
    execvp(argv[3], argv + 3);
    fprintf(stderr, "launch: %s: %s\n", argv[3], strerror(errno));
    _exit(127);
  }
  if (program < 0) return 1;
  if (argv[2][0]) drive(argv[2], program);

  int status;
  struct rusage used;
  if (wait4(program, &status, 0, &used) < 0) return 1;
  double wall = now_ms() - start;
  dprintf(3,
          "{\"wallMs\": %.3f, \"userMs\": %.3f, \"systemMs\": %.3f, \"minorFaults\": %ld, "
          "\"majorFaults\": %ld, \"peakRssBytes\": %ld, \"realTime\": %d, \"framesTogether\": %.3f, \"status\": %d}\n",
          wall, ms_of(used.ru_utime), ms_of(used.ru_stime), used.ru_minflt, used.ru_majflt,
          used.ru_maxrss * 1024, real_time, together, WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status));
  return 0;
}
