/*
 * Measures what memory operations cost on this host: faults by kind, unmapping, splitting, fork,
 * system calls, zeroing, copying, and page walks with 4K and 2M pages. Prints one JSON document.
 *
 * Method: first the access patterns, whose buffers also make a hypervisor back the guest's memory
 * (the first touch of guest memory costs milliseconds and would drown everything else); then
 * rounds, in each of which every experiment runs once on some hundred to some thousand operations
 * and gives one sample. Reported: p10, median, p90 over the rounds. Where it may (root), it runs on
 * one CPU with real-time priority, so that other work neither interrupts it nor empties its caches.
 *
 * Uses only madvise to choose page sizes. Folios of 16K..1M need a knob that root may write; it is
 * put back by a keeper process when this one ends in whatever way.
 *
 * Usage: calibrate [seconds]       about that long for the rounds (default 4)
 */
#include "measure.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define MAX_ROUNDS 400
#define MIN_ROUNDS 9
#define MAX_SERIES 240

/* ---- Series: named samples ------------------------------------------------------------------------------------ */

struct series {
  char name[48];
  const char *unit;
  int n;
  double values[MAX_ROUNDS];
};

static struct series all_series[MAX_SERIES];
static int nr_series;
static char skipped[4096];

static void sample(const char *name, const char *unit, double value) {
  int i = 0;
  while (i < nr_series && strcmp(all_series[i].name, name) != 0) i++;
  if (i == MAX_SERIES) die("too many series");
  struct series *s = &all_series[i];
  if (i == nr_series) {
    nr_series++;
    snprintf(s->name, sizeof s->name, "%s", name);
    s->unit = unit;
  }
  if (s->n < MAX_ROUNDS) s->values[s->n++] = value;
}

/* Notes, once, that something could not be measured. `why` holds no quotes. */
static void skip(const char *name, const char *why) {
  char entry[300];
  snprintf(entry, sizeof entry, "%s{\"name\": \"%s\", \"why\": \"%s\"}", skipped[0] ? ", " : "",
           name, why);
  char key[80];
  snprintf(key, sizeof key, "\"%s\"", name);
  if (strstr(skipped, key) || strlen(skipped) + strlen(entry) >= sizeof skipped) return;
  strcat(skipped, entry);
}

static void print_json(void) {
  printf("{\"schema\": \"hugelab.measurements\", \"version\": 1,\n \"measurements\": [");
  for (int i = 0; i < nr_series; i++) {
    struct series *s = &all_series[i];
    qsort(s->values, (size_t)s->n, sizeof(double), compare_doubles);
    double p10 = quantile(s->values, s->n, 0.1), median = quantile(s->values, s->n, 0.5);
    printf("%s\n  {\"name\": \"%s\", \"unit\": \"%s\", \"n\": %d, ", i ? "," : "", s->name, s->unit, s->n);
    printf("\"p10\": %.6g, \"median\": %.6g, \"p90\": %.6g}", p10, median,
           quantile(s->values, s->n, 0.9));
  }
  printf("],\n \"skipped\": [%s]}\n", skipped);
}

/* ---- Faults ---------------------------------------------------------------------------------------------------- */

#define SMALL_BYTES (16 * MIB)
#define SMALL_PAGES (double)(SMALL_BYTES / PAGE)
#define HUGE_BYTES (64 * MIB)
#define HUGE_PAGES (double)(HUGE_BYTES / HUGE)

static void anon_small(void) {
  char *p = map_small(SMALL_BYTES);
  double t0 = cpu_ns();
  read_each(p, SMALL_BYTES, PAGE);
  double t1 = cpu_ns();
  write_each(p, SMALL_BYTES, PAGE);
  double t2 = cpu_ns();
  madvise(p, SMALL_BYTES, MADV_DONTNEED);
  double t3 = cpu_ns();
  write_each(p, SMALL_BYTES, PAGE);
  double t4 = cpu_ns();
  mprotect(p, SMALL_BYTES, PROT_READ);
  double t5 = cpu_ns();
  mprotect(p, SMALL_BYTES, PROT_READ | PROT_WRITE);
  double t6 = cpu_ns();
  munmap(p, SMALL_BYTES);
  double t7 = cpu_ns();
  sample("fault_zero_page_read", "ns", (t1 - t0) / SMALL_PAGES);
  sample("fault_zero_page_write", "ns", (t2 - t1) / SMALL_PAGES);
  sample("dontneed_4k_page", "ns", (t3 - t2) / SMALL_PAGES);
  sample("fault_4k_write", "ns", (t4 - t3) / SMALL_PAGES);
  sample("mprotect_4k_page", "ns", (t5 - t4) / SMALL_PAGES);
  sample("unprotect_4k_page", "ns", (t6 - t5) / SMALL_PAGES);
  sample("munmap_4k_page", "ns", (t7 - t6) / SMALL_PAGES);
}

static void anon_huge(void) {
  char *p = map_huge(HUGE_BYTES);
  long f0 = minor_faults();
  double t0 = cpu_ns();
  write_each(p, HUGE_BYTES, HUGE);
  double t1 = cpu_ns();
  read_each(p, HUGE_BYTES, PAGE); /* faults again unless the pages are huge */
  if (minor_faults() - f0 > (long)(HUGE_PAGES * 1.5)) {
    munmap(p, HUGE_BYTES);
    skip("fault_2m_write", "the kernel gives no transparent huge pages");
    return;
  }
  double t2 = cpu_ns();
  mprotect(p, HUGE_BYTES, PROT_READ);
  double t3 = cpu_ns();
  mprotect(p, HUGE_BYTES, PROT_READ | PROT_WRITE);
  madvise(p, HUGE_BYTES / 2, MADV_DONTNEED);
  double t4 = cpu_ns();
  madvise(p + HUGE_BYTES / 2, HUGE_BYTES / 2, MADV_DONTNEED);
  double t5 = cpu_ns();
  read_each(p, HUGE_BYTES, HUGE);
  double t6 = cpu_ns();
  write_each(p, HUGE_BYTES, HUGE);
  double t7 = cpu_ns();
  munmap(p, HUGE_BYTES);
  double t8 = cpu_ns();
  sample("fault_2m_write", "ns", (t1 - t0) / HUGE_PAGES);
  sample("mprotect_2m_page", "ns", (t3 - t2) / HUGE_PAGES);
  sample("dontneed_2m_page", "ns", (t5 - t4) / (HUGE_PAGES / 2));
  sample("fault_huge_zero_read", "ns", (t6 - t5) / HUGE_PAGES);
  sample("fault_huge_zero_write", "ns", (t7 - t6) / HUGE_PAGES);
  sample("munmap_2m_page", "ns", (t8 - t7) / HUGE_PAGES);
}

/*
 * DONTNEED of one page of a huge page splits the PMD and zaps one page; MADV_FREE of one page splits
 * the folio too. The same call where nothing is left to split is taken off.
 */
static void splits(void) {
  char *p = map_huge(HUGE_BYTES);
  long f0 = minor_faults();
  write_each(p, HUGE_BYTES, PAGE);
  if (minor_faults() - f0 > (long)(HUGE_PAGES * 1.5)) {
    munmap(p, HUGE_BYTES);
    return;
  }
  int half = (int)(HUGE_PAGES / 2);
  double t0 = cpu_ns();
  for (int i = 0; i < half; i++) madvise(p + (size_t)i * HUGE, PAGE, MADV_DONTNEED);
  double t1 = cpu_ns();
  for (int i = 0; i < half; i++) madvise(p + (size_t)i * HUGE + 8 * PAGE, PAGE, MADV_DONTNEED);
  double t2 = cpu_ns();
  for (int i = half; i < 2 * half; i++) madvise(p + (size_t)i * HUGE, PAGE, MADV_FREE);
  double t3 = cpu_ns();
  for (int i = half; i < 2 * half; i++) madvise(p + (size_t)i * HUGE + 8 * PAGE, PAGE, MADV_FREE);
  double t4 = cpu_ns();
  munmap(p, HUGE_BYTES);
  sample("split_pmd", "ns", (t1 - t0 - (t2 - t1)) / half);
  sample("split_folio", "ns", (t3 - t2 - (t4 - t3)) / half);
  sample("dontneed_call_one_page", "ns", (t2 - t1) / half);
}

/* One collapse of a range whose first `nr_pages` pages are there. */
static void collapse(const char *name, size_t nr_pages) {
  size_t bytes = 8 * HUGE;
  char *p = map_small(bytes);
  for (size_t at = 0; at < bytes; at += HUGE) write_each(p + at, nr_pages * PAGE, PAGE);
  madvise(p, bytes, MADV_HUGEPAGE);
  double t0 = cpu_ns();
  int failed = madvise(p, bytes, MADV_COLLAPSE);
  double t1 = cpu_ns();
  if (failed)
    skip(name, "MADV_COLLAPSE was refused");
  else
    sample(name, "ns", (t1 - t0) / 8);
  munmap(p, bytes);
}

static void collapses(void) {
  collapse("collapse_512", 512);
  collapse("collapse_1", 1);
}

/* MADV_FREE of written pages, and mremap that moves them. */
static void free_and_move(void) {
  char *small = map_small(SMALL_BYTES), *to = map_small(SMALL_BYTES + PAGE);
  write_each(small, SMALL_BYTES, PAGE);
  to += PAGE; /* were both aligned, whole page tables would move */
  double t0 = cpu_ns();
  mremap(small, SMALL_BYTES, SMALL_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, to);
  double t1 = cpu_ns();
  madvise(to, SMALL_BYTES, MADV_FREE);
  double t2 = cpu_ns();
  munmap(to - PAGE, SMALL_BYTES + PAGE);
  sample("mremap_4k_page", "ns", (t1 - t0) / SMALL_PAGES);
  sample("lazyfree_4k_page", "ns", (t2 - t1) / SMALL_PAGES);

  char *huge = map_huge(HUGE_BYTES);
  to = map_huge(HUGE_BYTES);
  long f0 = minor_faults();
  write_each(huge, HUGE_BYTES, PAGE);
  int is_huge = minor_faults() - f0 < (long)(HUGE_PAGES * 1.5);
  double t3 = cpu_ns();
  mremap(huge, HUGE_BYTES, HUGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, to);
  double t4 = cpu_ns();
  madvise(to, HUGE_BYTES, MADV_FREE);
  double t5 = cpu_ns();
  munmap(to, HUGE_BYTES);
  if (!is_huge) return;
  sample("mremap_2m_page", "ns", (t4 - t3) / HUGE_PAGES);
  sample("lazyfree_2m_page", "ns", (t5 - t4) / HUGE_PAGES);
}

/* ---- Fork, exit and copy-on-write ----------------------------------------------------------- */

/* A child that does nothing until it is stopped, and the parent's CPU time in fork. */
struct child {
  pid_t pid;
  int release;
  double fork_ns;
};

static struct child fork_waiting(void) {
  struct child child;
  int ends[2];
  if (pipe(ends)) die("pipe: %s", strerror(errno));
  double t0 = cpu_ns();
  child.pid = fork();
  if (child.pid == 0) {
    char byte;
    close(ends[1]);
    ssize_t ended = read(ends[0], &byte, 1);
    _exit(ended < 0);
  }
  child.fork_ns = cpu_ns() - t0;
  if (child.pid < 0) die("fork: %s", strerror(errno));
  child.release = ends[1];
  close(ends[0]);
  return child;
}

/* Lets the child exit; returns the CPU time it used in all. */
static double stop_child(struct child child) {
  struct rusage used;
  close(child.release);
  wait4(child.pid, NULL, 0, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e9 +
         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e3;
}

/* While the process is small: fork, exit and wait of one like it; with exec of a program that ends at once. */
static void small_processes(const char *self) {
  for (int i = 0; i < 60; i++) {
    double t0 = cpu_ns();
    double child_ns = stop_child(fork_waiting());
    sample("fork_exit_wait", "ns", cpu_ns() - t0 + child_ns);

    struct rusage used;
    double t1 = cpu_ns();
    pid_t pid = vfork();
    if (pid == 0) {
      execl(self, self, "--end", (char *)NULL);
      _exit(127);
    }
    wait4(pid, NULL, 0, &used);
    child_ns = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e9 +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e3;
    sample("exec_exit_wait", "ns", cpu_ns() - t1 + child_ns);
  }
}

static void fork_small(void) {
  struct child child = fork_waiting();
  double base = child.fork_ns, base_child = stop_child(child);
  size_t bytes = 4 * SMALL_BYTES;
  double pages = (double)(bytes / PAGE);
  char *p = map_small(bytes);
  write_each(p, bytes, PAGE);

  child = fork_waiting();
  sample("fork_4k_page", "ns", (child.fork_ns - base) / pages);
  sample("exit_shared_4k_page", "ns", (stop_child(child) - base_child) / pages);
  double t0 = cpu_ns();
  write_each(p, bytes, PAGE); /* nobody else has them any more: only made writable */
  double t1 = cpu_ns();
  child = fork_waiting();
  double t2 = cpu_ns();
  write_each(p, bytes, PAGE); /* the child still has them: copies */
  double t3 = cpu_ns();
  stop_child(child);
  munmap(p, bytes);
  sample("fault_cow_reuse", "ns", (t1 - t0) / pages);
  sample("fault_cow_copy", "ns", (t3 - t2) / pages);
}

static void fork_huge(void) {
  struct child child = fork_waiting();
  double base = child.fork_ns, base_child = stop_child(child);
  size_t bytes = 4 * HUGE_BYTES;
  double pages = (double)(bytes / HUGE);
  char *p = map_huge(bytes);
  write_each(p, bytes, HUGE);

  child = fork_waiting();
  sample("fork_2m_page", "ns", (child.fork_ns - base) / pages);
  sample("exit_shared_2m_page", "ns", (stop_child(child) - base_child) / pages);
  double t0 = cpu_ns();
  write_each(p, bytes, HUGE);
  double t1 = cpu_ns();
  child = fork_waiting();
  double t2 = cpu_ns();
  write_each(p, bytes, HUGE); /* shared: the PMD is split and one page copied */
  double t3 = cpu_ns();
  stop_child(child);
  munmap(p, bytes);
  sample("fault_2m_cow_reuse", "ns", (t1 - t0) / pages);
  sample("fault_2m_cow_split", "ns", (t3 - t2) / pages);
}

/* ---- Files and system calls ----------------------------------------------------------------------------------- */

static char file_path[4096];
static int file_fd = -1;
#define FILE_BYTES (8 * MIB)

static void open_file(void) {
  const char *folder = getenv("TMPDIR");
  if (!folder || !*folder) folder = "/tmp";
  snprintf(file_path, sizeof file_path, "%s/hugelab-calibrate-XXXXXX", folder);
  file_fd = mkstemp(file_path);
  if (file_fd < 0) return;
  unlink(file_path);
  static char block[MIB];
  memset(block, 1, sizeof block);
  for (size_t done = 0; done < FILE_BYTES; done += sizeof block)
    if (write(file_fd, block, sizeof block) != (ssize_t)sizeof block) {
      close(file_fd);
      file_fd = -1;
      return;
    }
}

static void file_faults(void) {
  if (file_fd < 0) return skip("fault_file_read", "no temporary file could be written");
  char *p = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, file_fd, 0);
  if (p == MAP_FAILED) return skip("fault_file_read", "the temporary file cannot be mapped");
  long f0 = minor_faults();
  double t0 = cpu_ns();
  read_each(p, FILE_BYTES, PAGE);
  double t1 = cpu_ns();
  long faults = minor_faults() - f0;
  write_each(p, FILE_BYTES, PAGE); /* mapped read-only by the loop above: copies */
  double t2 = cpu_ns();
  madvise(p, FILE_BYTES, MADV_DONTNEED);
  read_each(p, FILE_BYTES, PAGE);
  double t3 = cpu_ns();
  munmap(p, FILE_BYTES);
  double t4 = cpu_ns();
  double pages = (double)(FILE_BYTES / PAGE);
  sample("munmap_file_page", "ns", (t4 - t3) / pages);
  sample("fault_file_read", "ns", (t1 - t0) / (double)(faults > 0 ? faults : 1));
  sample("fault_file_around_pages", "pages", pages / (double)(faults > 0 ? faults : 1));
  sample("fault_file_cow", "ns", (t2 - t1) / pages);
}

static void shared_faults(void) {
  char *p = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return;
  double t0 = cpu_ns();
  write_each(p, FILE_BYTES, PAGE);
  double t1 = cpu_ns();
  munmap(p, FILE_BYTES);
  sample("fault_shmem_write", "ns", (t1 - t0) / (double)(FILE_BYTES / PAGE));
}

#define CALLS 200

static void system_calls(void) {
  static char *maps[CALLS];
  double t0 = cpu_ns();
  for (int i = 0; i < CALLS; i++) syscall(SYS_getppid);
  double t1 = cpu_ns();
  for (int i = 0; i < CALLS; i++) { /* alternating, or neighbours would merge into one VMA */
    int prot = i & 1 ? PROT_READ : PROT_READ | PROT_WRITE;
    maps[i] = mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  double t2 = cpu_ns();
  for (int i = 0; i < CALLS; i++) mprotect(maps[i], PAGE, PROT_NONE);
  double t3 = cpu_ns();
  for (int i = 0; i < CALLS; i++) munmap(maps[i], PAGE);
  double t4 = cpu_ns();
  long start = syscall(SYS_brk, 0);
  for (int i = 1; i <= CALLS; i++) syscall(SYS_brk, start + (long)(i * PAGE));
  double t5 = cpu_ns();
  syscall(SYS_brk, start);
  char *empty = map_small(HUGE);
  double t6 = cpu_ns();
  for (int i = 0; i < CALLS; i++) madvise(empty + (size_t)i * PAGE, PAGE, MADV_DONTNEED);
  double t7 = cpu_ns();
  munmap(empty, HUGE);
  sample("syscall_base", "ns", (t1 - t0) / CALLS);
  sample("syscall_mmap", "ns", (t2 - t1) / CALLS);
  sample("syscall_mprotect", "ns", (t3 - t2) / CALLS);
  sample("syscall_munmap", "ns", (t4 - t3) / CALLS);
  sample("syscall_brk", "ns", (t5 - t4) / CALLS);
  sample("syscall_madvise", "ns", (t7 - t6) / CALLS);
}

/* ---- Zeroing and copying --------------------------------------------------------------------------------------- */

static void string_fill(char *to, size_t bytes) {
#ifdef __x86_64__
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
#else
  memset(to, 0, bytes);
#endif
}

static void string_copy(char *to, const char *from, size_t bytes) {
#ifdef __x86_64__
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
#else
  memcpy(to, from, bytes);
#endif
}

/* As the kernel clears and copies: by string instructions, over more memory than the caches hold. */
static char *bandwidth_buffer;
#define BANDWIDTH_BYTES (128 * MIB)

static void bandwidth(void) {
  char *half = bandwidth_buffer + BANDWIDTH_BYTES / 2;
  size_t bytes = BANDWIDTH_BYTES / 2;
  double t0 = cpu_ns();
  for (size_t i = 0; i < bytes; i += PAGE) string_fill(bandwidth_buffer + i, PAGE);
  double t1 = cpu_ns();
  for (size_t i = 0; i < bytes; i += HUGE) string_fill(bandwidth_buffer + i, HUGE);
  double t2 = cpu_ns();
  for (size_t i = 0; i < bytes; i += PAGE) string_copy(half + i, bandwidth_buffer + i, PAGE);
  double t3 = cpu_ns();
  sample("clear_4k", "ns", (t1 - t0) / (double)(bytes / PAGE));
  sample("clear_2m", "ns", (t2 - t1) / (double)(bytes / HUGE));
  sample("copy_4k", "ns", (t3 - t2) / (double)(bytes / PAGE));
}

/* Dependent additions run one a cycle: the clock rate of the core. */
static void clock_rate(void) {
  const long additions = 200000;
  uint64_t x = 1;
  double t0 = cpu_ns();
  for (long i = 0; i < additions; i += 8)
    __asm__ volatile("add %0, %0\n add %0, %0\n add %0, %0\n add %0, %0\n"
                     "add %0, %0\n add %0, %0\n add %0, %0\n add %0, %0"
                     : "+r"(x));
  sample("core_cycles_per_ns", "cycles", (double)additions / (cpu_ns() - t0));
}

/* ---- Random and sequential access with 4K and with 2M pages ------------------------------------------------------ */

static const uint64_t STEP = 6364136223846793005u;
static volatile uint64_t nowhere;

/* Each address depends on the value read before (always zero), so nothing overlaps. */
static double dependent_reads(char *base, size_t bytes, long accesses) {
  uint64_t x = 88172645463325252u, mask = (bytes - 1) & ~(uint64_t)63;
  double t0 = cpu_ns();
  for (long i = 0; i < accesses; i++)
    x = x * STEP + 1442695040888963407u + *(volatile uint64_t *)(base + ((x >> 24) & mask));
  double t1 = cpu_ns();
  nowhere = x;
  return (t1 - t0) / (double)accesses;
}

/* The same chain of arithmetic without the read. */
static double arithmetic_alone(long accesses) {
  uint64_t x = 88172645463325252u, zero = 0;
  double t0 = cpu_ns();
  for (long i = 0; i < accesses; i++) {
    __asm__ volatile("" : "+r"(zero)); /* the compiler must not know it */
    x = x * STEP + 1442695040888963407u + ((zero + (x >> 24)) & 0);
  }
  double t1 = cpu_ns();
  nowhere = x;
  return (t1 - t0) / (double)accesses;
}

/*
 * Working sets that fit the first two levels of cache on any recent CPU, and then each doubling: where the time rises to
 * that of memory ends what this program gets of the last cache.
 */
static void cache_latencies(void) {
  size_t largest = 64 * MIB;
  char *p = map_huge(largest);
  memset(p, 0, largest);
  long second_level = sysconf(_SC_LEVEL2_CACHE_SIZE);
  sample("second_level_bytes", "bytes", second_level > 0 ? (double)second_level : 0);
  for (int round = 0; round < 9; round++) {
    sample("dependent_arithmetic", "ns", arithmetic_alone(200000));
    sample("dependent_read_2m_16k", "ns", dependent_reads(p, 16 * 1024, 200000));
    sample("dependent_read_2m_256k", "ns", dependent_reads(p, 256 * 1024, 200000));
    for (size_t bytes = MIB; bytes <= largest; bytes *= 2) {
      char name[48];
      snprintf(name, sizeof name, "dependent_cache_%zum", bytes / MIB);
      sample(name, "ns", dependent_reads(p, bytes, 150000));
    }
  }
  munmap(p, largest);
}

/* Addresses known in advance: the core keeps several reads in flight. */
static double independent_reads(char *base, size_t bytes, long accesses) {
  uint64_t x = 88172645463325252u, sum = 0, mask = (bytes - 1) & ~(uint64_t)63;
  double t0 = cpu_ns();
  for (long i = 0; i < accesses; i++) {
    x = x * STEP + 1442695040888963407u;
    sum += *(volatile uint64_t *)(base + ((x >> 24) & mask));
  }
  double t1 = cpu_ns();
  nowhere = sum;
  return (t1 - t0) / (double)accesses;
}

static double random_writes(char *base, size_t bytes, long accesses) {
  uint64_t x = 88172645463325252u, mask = (bytes - 1) & ~(uint64_t)63;
  double t0 = cpu_ns();
  for (long i = 0; i < accesses; i++) {
    x = x * STEP + 1442695040888963407u;
    *(volatile uint64_t *)(base + ((x >> 24) & mask)) = 0;
  }
  return (cpu_ns() - t0) / (double)accesses;
}

/* Per 64 bytes. */
static double sequential_reads(char *base, size_t bytes, long accesses) {
  size_t length = (size_t)accesses * 64 < bytes ? (size_t)accesses * 64 : bytes;
  double t0 = cpu_ns();
  read_each(base, length, 64);
  return (cpu_ns() - t0) / (double)(length / 64);
}

static void access_patterns(size_t largest) {
  static const struct {
    const char *name;
    double (*run)(char *, size_t, long);
    long accesses;
  } patterns[] = {
      {"dependent_read", dependent_reads, 250000},
      {"independent_read", independent_reads, 400000},
      {"random_write", random_writes, 400000},
      {"sequential_read", sequential_reads, 1000000},
  };
  char *small = map_small(largest), *huge = map_huge(largest);
  memset(small, 0, largest);
  long f0 = minor_faults();
  memset(huge, 0, largest);
  int has_huge = minor_faults() - f0 < (long)(largest / HUGE * 2);
  if (!has_huge) skip("dependent_read_2m", "the kernel gives no transparent huge pages");

  for (size_t bytes = MIB; bytes <= largest; bytes *= 4)
    for (int round = 0; round < 4; round++)
      for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        char name[48];
        snprintf(name, sizeof name, "%s_4k_%zum", patterns[i].name, bytes / MIB);
        sample(name, "ns", patterns[i].run(small, bytes, patterns[i].accesses));
        if (!has_huge) continue;
        snprintf(name, sizeof name, "%s_2m_%zum", patterns[i].name, bytes / MIB);
        sample(name, "ns", patterns[i].run(huge, bytes, patterns[i].accesses));
      }
  munmap(small, largest);
  munmap(huge, largest);
}

/* ---- Page walks alone ---------------------------------------------------------------------------------------------- */

/*
 * One line of each of a number of pages, in random order: the data fits the caches, and what grows is the translation.
 * Three kinds of memory: 2M pages; 4K pages as the kernel gives them; and 4K pages of which each was moved (mremap) from an
 * aligned group of eight of its own, so that in a guest no line of the hypervisor's tables serves two of them.
 */
#define WALK_PAGES 16384
static uint32_t walk_line[WALK_PAGES]; /* in random order: offset of a page's line */

static void shuffle_lines(size_t pages) {
  uint64_t x = 88172645463325252u;
  for (size_t i = 0; i < pages; i++) {
    size_t line = (i * 37 + (i >> 6) * 11) & 63; /* all sets of a cache alike */
    walk_line[i] = (uint32_t)(i * PAGE + line * 64);
  }
  for (size_t i = pages - 1; i > 0; i--) {
    x = x * STEP + 1442695040888963407u;
    size_t j = (x >> 33) % (i + 1);
    uint32_t line = walk_line[i];
    walk_line[i] = walk_line[j];
    walk_line[j] = line;
  }
}

static double chained_lines(char *base, size_t pages, long accesses) {
  for (size_t i = 0; i < pages; i++) *(uint64_t *)(base + walk_line[i]) = walk_line[(i + 1) % pages];
  uint64_t at = walk_line[0];
  for (size_t i = 0; i < pages; i++) at = *(volatile uint64_t *)(base + at);
  double t0 = cpu_ns();
  for (long i = 0; i < accesses; i++) at = *(volatile uint64_t *)(base + at);
  double t1 = cpu_ns();
  nowhere = at;
  return (t1 - t0) / (double)accesses;
}

static double unchained_lines(char *base, size_t pages, long accesses) {
  uint64_t sum = 0;
  double t0 = cpu_ns();
  for (long done = 0; done < accesses; done += (long)pages)
    for (size_t i = 0; i < pages; i++) sum += *(volatile uint64_t *)(base + walk_line[i]);
  double t1 = cpu_ns();
  nowhere = sum;
  long rounds = (accesses + (long)pages - 1) / (long)pages;
  return (t1 - t0) / (double)(rounds * (long)pages);
}

/* Every eighth page of `from`, in random order, moved to one range; NULL if that is refused. */
static char *scattered_pages(void) {
  size_t group = 8 * PAGE, bytes = WALK_PAGES * group;
  char *from = map_small(bytes), *to = map_small(WALK_PAGES * PAGE);
  memset(from, 0, bytes);
  shuffle_lines(WALK_PAGES);
  int refused = 0;
  for (size_t i = 0; i < WALK_PAGES && !refused; i++) {
    char *page = from + (walk_line[i] / PAGE) * group;
    refused = mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + i * PAGE) == MAP_FAILED;
  }
  munmap(from, bytes);
  if (!refused) return to;
  munmap(to, WALK_PAGES * PAGE);
  return NULL;
}

/* Needs root: how many aligned groups of eight frames hold the pages of a range of 4K pages. */
static void frame_groups(const char *base) {
  static uint64_t group[WALK_PAGES];
  int fd = open("/proc/self/pagemap", O_RDONLY);
  int seen = 0;
  for (size_t i = 0; i < WALK_PAGES && fd >= 0; i++) {
    uint64_t entry = 0, page = (uintptr_t)base / PAGE + i;
    if (pread(fd, &entry, sizeof entry, (off_t)(page * sizeof entry)) != sizeof entry) break;
    group[i] = (entry & ((UINT64_C(1) << 55) - 1)) / 8;
    seen += group[i] != 0;
  }
  if (fd >= 0) close(fd);
  if (seen < WALK_PAGES) return skip("frames_in_group_of_8", "page frame numbers are shown to root only");
  /* Neighbours count together only if they follow each other, as a program that walks its memory meets them. */
  long groups = 1;
  for (size_t i = 1; i < WALK_PAGES; i++) groups += group[i] != group[i - 1];
  sample("frames_in_group_of_8", "pages", (double)WALK_PAGES / (double)groups);
}

static void page_walks(void) {
  static const size_t counts[] = {32, 256, 1024, 4096, 8192, WALK_PAGES};
  struct {
    const char *name;
    char *base;
  } kinds[] = {{"2m", map_huge(WALK_PAGES * PAGE)}, {"4k", map_small(WALK_PAGES * PAGE)}, {"scattered", NULL}};
  kinds[2].base = scattered_pages();
  if (!kinds[2].base) skip("walk_scattered", "mremap of single pages was refused");
  for (int k = 0; k < 2; k++) write_each(kinds[k].base, WALK_PAGES * PAGE, PAGE);

  for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
    shuffle_lines(counts[c]);
    for (int round = 0; round < 7; round++)
      for (int k = 0; k < 3; k++) {
        if (!kinds[k].base) continue;
        char name[48];
        snprintf(name, sizeof name, "walk_chain_%s_%zu", kinds[k].name, counts[c]);
        sample(name, "ns", chained_lines(kinds[k].base, counts[c], 100000));
        snprintf(name, sizeof name, "walk_free_%s_%zu", kinds[k].name, counts[c]);
        sample(name, "ns", unchained_lines(kinds[k].base, counts[c], 200000));
      }
  }
  for (int k = 0; k < 3; k++)
    if (kinds[k].base) munmap(kinds[k].base, WALK_PAGES * PAGE);
}

/* The largest of 1, 4, 16 ... 4096 MiB of which three fit into what is available; at least 64 MiB. */
static size_t largest_working_set(void) {
  long available_kb = 0;
  char line[200];
  FILE *f = fopen("/proc/meminfo", "r");
  while (f && fgets(line, sizeof line, f)) sscanf(line, "MemAvailable: %ld kB", &available_kb);
  if (f) fclose(f);
  size_t bytes = 64 * MIB;
  while (bytes < 1024 * MIB && bytes * 4 * 3 < (size_t)available_kb * 1024) bytes *= 4;
  return bytes;
}

/* ---- Folios of 16K to 1M ------------------------------------------------------------------------------------------ */

#define THP_FOLDER "/sys/kernel/mm/transparent_hugepage"
static const int MTHP_KB[] = {16, 32, 64, 128, 256, 512, 1024};
#define NR_MTHP (int)(sizeof MTHP_KB / sizeof *MTHP_KB)

static int write_text(const char *path, const char *text) {
  int fd = open(path, O_WRONLY);
  if (fd < 0) return -1;
  ssize_t done = write(fd, text, strlen(text));
  close(fd);
  return done < 0 ? -1 : 0;
}

/* The word in brackets of a knob such as "always [madvise] never"; empty if it cannot be read. */
static void read_choice(const char *path, char *choice, size_t size) {
  char text[200] = "";
  choice[0] = 0;
  FILE *f = fopen(path, "r");
  if (!f) return;
  if (fgets(text, sizeof text, f)) {
    char *open_at = strchr(text, '['), *close_at = strchr(text, ']');
    if (open_at && close_at) snprintf(choice, size, "%.*s", (int)(close_at - open_at - 1), open_at + 1);
  }
  fclose(f);
}

/*
 * A process that outlives this one, waits for its end and puts the per-size knobs back. Returns the
 * end of the pipe whose closing tells it, or -1.
 */
static int start_keeper(char saved[][32], pid_t *keeper) {
  int ends[2];
  if (pipe(ends)) return -1;
  *keeper = fork();
  if (*keeper == 0) {
    setsid();
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    close(ends[1]);
    char byte;
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR) {}
    for (int i = 0; i < NR_MTHP; i++) {
      char path[200];
      snprintf(path, sizeof path, THP_FOLDER "/hugepages-%dkB/enabled", MTHP_KB[i]);
      if (saved[i][0]) write_text(path, saved[i]);
    }
    _exit(0);
  }
  close(ends[0]);
  return ends[1];
}

/* Every 2 MiB of the mapping has a hole: no PMD-sized folio fits and the per-size knob decides. */
static void mthp_faults(int kb) {
  size_t size = (size_t)kb * 1024, hole = HUGE / 2, bytes = 16 * MIB;
  char *p = map_huge(bytes);
  for (size_t at = 0; at < bytes; at += HUGE) munmap(p + at, hole);
  double nr = (double)(bytes / 2 / size);
  long f0 = minor_faults();
  double t0 = cpu_ns();
  for (size_t at = hole; at < bytes; at += HUGE) write_each(p + at, HUGE - hole, size);
  double t1 = cpu_ns();
  for (size_t at = hole; at < bytes; at += HUGE) read_each(p + at, HUGE - hole, PAGE);
  long faults = minor_faults() - f0;
  double t2 = cpu_ns();
  munmap(p, bytes);
  double t3 = cpu_ns();
  if ((double)faults > nr * 1.2) return;
  char name[48];
  snprintf(name, sizeof name, "fault_%dk_write", kb);
  sample(name, "ns", (t1 - t0) / nr);
  snprintf(name, sizeof name, "munmap_%dk_folio_page", kb);
  sample(name, "ns", (t3 - t2) / (double)(bytes / 2 / PAGE));
}

static void all_mthp_faults(void) {
  char saved[NR_MTHP][32], path[200];
  for (int i = 0; i < NR_MTHP; i++) {
    snprintf(path, sizeof path, THP_FOLDER "/hugepages-%dkB/enabled", MTHP_KB[i]);
    read_choice(path, saved[i], sizeof saved[i]);
  }
  pid_t keeper;
  int keeper_pipe = start_keeper(saved, &keeper);
  if (keeper_pipe < 0) return;
  for (int i = 0; i < NR_MTHP; i++) {
    snprintf(path, sizeof path, THP_FOLDER "/hugepages-%dkB/enabled", MTHP_KB[i]);
    if (!saved[i][0] || write_text(path, "madvise")) {
      skip("fault_64k_write", "the per-size knobs cannot be written (needs root)");
      continue;
    }
    for (int round = 0; round < 15; round++) mthp_faults(MTHP_KB[i]);
    write_text(path, saved[i]);
  }
  close(keeper_pipe);
  waitpid(keeper, NULL, 0);
}

/* On the last CPU allowed, before everything of usual priority; in vain without root. */
static void set_apart(void) {
  cpu_set_t usual, one;
  if (sched_getaffinity(0, sizeof usual, &usual)) return;
  int last = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &usual)) last = cpu;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  struct sched_param param = {.sched_priority = 50};
  if (sched_setscheduler(0, SCHED_RR, &param) == 0) sched_setaffinity(0, sizeof one, &one);
}

/* What the rounds use is backed by a hypervisor before: they take it from what was freed last. */
static void back_memory(void) {
  size_t bytes = 512 * MIB;
  char *p = map_huge(bytes);
  write_each(p, bytes, PAGE);
  munmap(p, bytes);
}

/* As a program gets its memory: before this one has freed any. */
static void frames_of_new_memory(void) {
  char *p = map_small(WALK_PAGES * PAGE);
  write_each(p, WALK_PAGES * PAGE, PAGE);
  frame_groups(p);
  munmap(p, WALK_PAGES * PAGE);
}

static double wall_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--end") == 0) return 0;
  double seconds = argc > 1 ? atof(argv[1]) : 4;
  if (!(seconds >= 0.1 && seconds <= 600)) die("usage: calibrate [seconds]");
  prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);

  small_processes("/proc/self/exe");
  set_apart();
  frames_of_new_memory();
  cache_latencies();
  access_patterns(largest_working_set());
  page_walks();
  all_mthp_faults();
  open_file();
  bandwidth_buffer = map_huge(BANDWIDTH_BYTES);
  memset(bandwidth_buffer, 1, BANDWIDTH_BYTES);

  static void (*const experiments[])(void) = {
      anon_small, anon_huge,   splits,        collapses,    free_and_move, fork_small,
      fork_huge,  file_faults, shared_faults, system_calls, bandwidth,     clock_rate,
  };
  back_memory();
  double start = wall_seconds();
  for (int round = 0; round < MAX_ROUNDS; round++) {
    if (round >= MIN_ROUNDS && wall_seconds() - start >= seconds) break;
    for (size_t i = 0; i < sizeof experiments / sizeof *experiments; i++) experiments[i]();
  }
  print_json();
  return 0;
}
