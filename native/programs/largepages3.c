/*
 * The program of the 2011 log (rule ANON-310): what page faults and TLB misses cost, in five timed passes.
 *
 *     largepages3 [MIB [huge|small]]      default 3072, as in the log
 *
 * "huge" and "small" advise the memory, so that both can be had whatever transparent_hugepage/enabled says (but never).
 *
 * Prints one line a pass: its name and microseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void fill(char *memory, size_t size) {
  memset(memory, 0, size);
  /* The compiler must not merge the passes. */
  __asm__ volatile("" ::"r"(memory) : "memory");
}

static void write_each_page(char *memory, size_t size) {
  for (size_t at = 0; at < size; at += PAGE) *(volatile char *)(memory + at) = 0;
}

static void pass(const char *name, void (*work)(char *, size_t), char *memory, size_t size) {
  double from = now_us();
  work(memory, size);
  printf("%s %.0f\n", name, now_us() - from);
}

/* The whole pages of the memory; malloc keeps its header in the first. */
static int advise(char *memory, size_t size, const char *how) {
  char *start = (char *)(((size_t)memory + PAGE - 1) & ~(size_t)(PAGE - 1));
  int advice = strcmp(how, "huge") == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
  return madvise(start, (size_t)(memory + size - start) & ~(size_t)(PAGE - 1), advice);
}

int main(int argc, char **argv) {
  size_t size = (size_t)(argc > 1 ? atol(argv[1]) : 3072) << 20;
  char *memory = malloc(size);
  if (size == 0 || !memory) {
    fprintf(stderr, "usage: largepages3 [MIB [huge|small]]\n");
    return 2;
  }
  if (argc > 2 && advise(memory, size, argv[2]) != 0) {
    perror("madvise");
    return 1;
  }
  pass("memset page fault", fill, memory, size);
  pass("memset tlb miss", fill, memory, size);
  pass("memset second tlb miss", fill, memory, size);
  pass("random access tlb miss", write_each_page, memory, size);
  pass("random access second tlb miss", write_each_page, memory, size);
  return 0;
}
