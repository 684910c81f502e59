/*
 * What timing programs of native/ share: a clock, mappings with a chosen page size, quantiles.
 *
 * Time is the thread's CPU time: other work on the host is not counted, the kernel's part is.
 * What the kernel refuses ends the program with one line on stderr.
 */
#ifndef HUGELAB_MEASURE_H
#define HUGELAB_MEASURE_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define HUGE ((size_t)2 << 20)
#define MIB ((size_t)1 << 20)

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  exit(1);
}

/* CPU time of this thread in ns. */
static inline double cpu_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Minor faults of this thread so far. */
static inline long minor_faults(void) {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

/* Private anonymous memory aligned to 2 MiB, untouched; `advice` is MADV_[NO]HUGEPAGE. */
static inline char *map_advised(size_t bytes, int advice) {
  size_t reserved = bytes + HUGE;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  char *p = mmap(NULL, reserved, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (p == MAP_FAILED) die("mmap of %zu bytes: %s", reserved, strerror(errno));
  char *start = (char *)(((uintptr_t)p + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
  if (start > p) munmap(p, (size_t)(start - p));
  char *end = start + bytes;
  if (end < p + reserved) munmap(end, (size_t)(p + reserved - end));
  madvise(start, bytes, advice); /* a kernel without THP refuses: then everything is small anyway */
  return start;
}

static inline char *map_small(size_t bytes) { return map_advised(bytes, MADV_NOHUGEPAGE); }
static inline char *map_huge(size_t bytes) { return map_advised(bytes, MADV_HUGEPAGE); }

/* Writes one byte at every `stride` bytes. */
static inline void write_each(char *p, size_t bytes, size_t stride) {
  for (size_t i = 0; i < bytes; i += stride) *(volatile char *)(p + i) = 1;
}

/* Reads one byte at every `stride` bytes. */
static inline void read_each(char *p, size_t bytes, size_t stride) {
  for (size_t i = 0; i < bytes; i += stride) (void)*(volatile char *)(p + i);
}

static inline int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The value below which a share `q` of the n sorted values lies. */
static inline double quantile(const double *sorted, int n, double q) {
  return sorted[(int)(q * (n - 1) + 0.5)];
}

#endif
