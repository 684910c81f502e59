/*
 * The live kernel's side of `npm run bench`: one experiment, a few rounds, ns per operation.
 *
 * Usage:  livebench fault4k|fault2m|munmap4k|fork1g|cow4k|collapse ROUNDS
 * Prints: a JSON array with one number per round; [] if the kernel cannot do it (no huge pages).
 * Time is this thread's CPU time. The first round's memory is touched once before, so that the host
 * of a virtual machine has made it real.
 */
#include "../calibrate/measure.h"

#include <sys/prctl.h>

#define SPAN (256 * MIB)
#define GIB ((size_t)1 << 30)

static void warm_up(size_t bytes) {
  char *p = map_huge(bytes);
  write_each(p, bytes, PAGE);
  munmap(p, bytes);
}

static double fault4k(void) {
  char *p = map_small(SPAN);
  double t0 = cpu_ns();
  write_each(p, SPAN, PAGE);
  double t1 = cpu_ns();
  munmap(p, SPAN);
  return (t1 - t0) / (double)(SPAN / PAGE);
}

/* -1 if the pages do not become huge. */
static double fault2m(void) {
  char *p = map_huge(SPAN);
  long f0 = minor_faults();
  double t0 = cpu_ns();
  write_each(p, SPAN, HUGE);
  double t1 = cpu_ns();
  read_each(p, SPAN, PAGE);
  int is_huge = minor_faults() - f0 < (long)(SPAN / HUGE * 2);
  munmap(p, SPAN);
  return is_huge ? (t1 - t0) / (double)(SPAN / HUGE) : -1;
}

static double munmap4k(void) {
  char *p = map_small(SPAN);
  write_each(p, SPAN, PAGE);
  double t0 = cpu_ns();
  munmap(p, SPAN);
  return (cpu_ns() - t0) / (double)(SPAN / PAGE);
}

/* Forks a child that ends when the pipe's end is closed; the time of the call goes to `ns`. */
static pid_t fork_waiting(int *release, double *ns) {
  int ends[2];
  if (pipe(ends)) die("pipe: %s", strerror(errno));
  double t0 = cpu_ns();
  pid_t pid = fork();
  if (pid == 0) {
    char byte;
    close(ends[1]);
    _exit(read(ends[0], &byte, 1) < 0);
  }
  *ns = cpu_ns() - t0;
  if (pid < 0) die("fork: %s", strerror(errno));
  close(ends[0]);
  *release = ends[1];
  return pid;
}

/* One whole fork of 1 GiB in 4K pages, all of them exclusive before. */
static double fork1g(void) {
  static char *p;
  if (!p) p = map_small(GIB);
  write_each(p, GIB, PAGE);
  int release;
  double ns;
  pid_t pid = fork_waiting(&release, &ns);
  close(release);
  waitpid(pid, NULL, 0);
  return ns;
}

static double cow4k(void) {
  char *p = map_small(SPAN);
  write_each(p, SPAN, PAGE);
  int release;
  double ns;
  pid_t pid = fork_waiting(&release, &ns);
  double t0 = cpu_ns();
  write_each(p, SPAN, PAGE);
  double t1 = cpu_ns();
  close(release);
  waitpid(pid, NULL, 0);
  munmap(p, SPAN);
  return (t1 - t0) / (double)(SPAN / PAGE);
}

/* Touched 4K pages of 64 MiB become huge ones; time per huge page. -1 if the kernel cannot do it. */
static double collapse(void) {
  enum { ADVICE_COLLAPSE = 25 };
  const size_t bytes = SPAN / 4;
  char *p = map_small(bytes);
  write_each(p, bytes, PAGE);
  if (madvise(p, bytes, MADV_HUGEPAGE)) die("madvise: %s", strerror(errno));
  double t0 = cpu_ns();
  int failed = madvise(p, bytes, ADVICE_COLLAPSE);
  double t1 = cpu_ns();
  munmap(p, bytes);
  return failed ? -1 : (t1 - t0) / (double)(bytes / HUGE);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    double (*run)(void);
    size_t memory;
  } experiments[] = {
      {"fault4k", fault4k, SPAN}, {"fault2m", fault2m, SPAN},   {"munmap4k", munmap4k, SPAN},
      {"fork1g", fork1g, GIB},    {"cow4k", cow4k, 2 * SPAN},
      {"collapse", collapse, SPAN / 2},
  };
  int rounds = argc == 3 ? atoi(argv[2]) : 0;
  prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
  for (size_t i = 0; rounds > 0 && i < sizeof experiments / sizeof *experiments; i++) {
    if (strcmp(argv[1], experiments[i].name) != 0) continue;
    warm_up(experiments[i].memory);
    putchar('[');
    for (int round = 0; round < rounds; round++) {
      double ns = experiments[i].run();
      if (ns >= 0) printf("%s%.6g", round ? ", " : "", ns);
    }
    puts("]");
    return 0;
  }
  die("usage: livebench fault4k|fault2m|munmap4k|fork1g|cow4k|collapse ROUNDS");
}
