/*
 * Runs a command once and says what it took: the measuring half of `npm run accuracy`.
 *
 * Usage:  launch never|asis DRIVER PROGRAM ARGS...
 * never switches huge pages off for the program and its children (prctl); asis leaves the kernel's setting.
 * DRIVER, if not empty, is a shell command that runs beside the program (HUGELAB_PID tells its process id); when it ends,
 * the program is asked to end by SIGTERM.
 * Prints one JSON object on descriptor 3. Peak RSS is that of the largest process, as wait4 has it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static void drive(const char *driver, pid_t program) {
  char pid[32];
  snprintf(pid, sizeof pid, "%d", program);
  setenv("HUGELAB_PID", pid, 1);
  pid_t shell = fork();
  if (shell == 0) {
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
          "\"majorFaults\": %ld, \"peakRssBytes\": %ld, \"status\": %d}\n",
          wall, ms_of(used.ru_utime), ms_of(used.ru_stime), used.ru_minflt, used.ru_majflt,
          used.ru_maxrss * 1024, WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status));
  return 0;
}
