/*
 * Pages through pagemap, PAGEMAP_SCAN, kpageflags and kpagecount; VMAs through smaps; numbers through status.
 *
 * Cost: kpageflags and kpagecount are read in runs of neighbouring frames, sorted by frame: a range of scattered pages costs
 *       two reads for each cluster of frames instead of two for each page.
 * Holds: looking changes nothing: no page is faulted in, no accessed bit is cleared.
 */
#define _GNU_SOURCE
#include "observe.h"
#include "protocol.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_PAGES (1u << 18) /* of one range */
#define FRAMES_AT_ONCE 1024  /* two folios of 2 MiB */
#define TEXT_BYTES (4u << 20)

/* pagemap */
#define PM_FRAME ((1ul << 55) - 1)
#define PM_EXCLUSIVE (1ul << 56)
#define PM_UFFD_WP (1ul << 57)
#define PM_GUARD (1ul << 58)
#define PM_FILE (1ul << 61)
#define PM_SWAP (1ul << 62)
#define PM_PRESENT (1ul << 63)

/* kpageflags */
#define KPF(bit) (1ul << (bit))
#define KPF_REFERENCED KPF(2)
#define KPF_UPTODATE KPF(3)
#define KPF_DIRTY KPF(4)
#define KPF_LRU KPF(5)
#define KPF_ACTIVE KPF(6)
#define KPF_SWAPCACHE KPF(13)
#define KPF_SWAPBACKED KPF(14)
#define KPF_HEAD KPF(15)
#define KPF_TAIL KPF(16)
#define KPF_UNEVICTABLE KPF(18)
#define KPF_ZERO KPF(24)
#define KPF_MLOCKED KPF(33)

/* PAGEMAP_SCAN, not in every distribution's headers */
struct scan_region {
  uint64_t start, end, categories;
};
struct scan_arg {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)
#define SCAN_HUGE (1ul << 6)

/* PAGE_STATES */
enum state { UNMAPPED, NONE, SMALL, HUGE_PMD, PART, ZERO, HUGE_ZERO, SWAPPED, GUARDED, POISONED, MIGRATING, FILE_PAGE };

/* Types of swap entries that are no swap device: the last of the 32. */
#define SWAP_TYPE(entry) ((entry) & 31)
#define FIRST_SPECIAL_TYPE 23

static int flags_fd, count_fd;
static uint64_t *entries;     /* pagemap of one range */
static uint8_t *is_huge;      /* mapped by a PMD */
static uint64_t *sorted;      /* frame << 18 | page of the range */
static uint64_t *run_flags, *run_counts;
static char *text;

void observe_start(void) {
  flags_fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
  count_fd = open("/proc/kpagecount", O_RDONLY | O_CLOEXEC);
  entries = private_memory(MAX_PAGES * 8);
  sorted = private_memory(MAX_PAGES * 8);
  is_huge = private_memory(MAX_PAGES);
  run_flags = private_memory(FRAMES_AT_ONCE * 8);
  run_counts = private_memory(FRAMES_AT_ONCE * 8);
  text = private_memory(TEXT_BYTES);
}

static int open_of(pid_t pid, const char *name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  return open(path, O_RDONLY | O_CLOEXEC);
}

int watch_process(struct watched *w, pid_t pid) {
  *w = (struct watched){pid, open_of(pid, "pagemap"), open_of(pid, "smaps"), open_of(pid, "status"),
                        open_of(pid, "mem")};
  return w->pagemap < 0 || w->smaps < 0 || w->status < 0 || w->mem < 0 ? -errno : 0;
}

void unwatch_process(struct watched *w) {
  if (w->pid == 0) return;
  close(w->pagemap);
  close(w->smaps);
  close(w->status);
  close(w->mem);
  *w = (struct watched){0};
}

/* ---- Pages ----------------------------------------------------------------------------------------------------- */

static void scan_huge(struct watched *w, uint64_t start, uint32_t nr) {
  struct scan_region regions[64];
  memset(is_huge, 0, nr);
  struct scan_arg arg = {.size = sizeof arg, .start = start, .end = start + nr * PAGE,
                         .vec = (uint64_t)regions, .vec_len = 64,
                         .category_mask = SCAN_HUGE, .return_mask = SCAN_HUGE};
  while (arg.start < arg.end) {
    int found = ioctl(w->pagemap, SCAN_IOCTL, &arg);
    if (found < 0) return;
    for (int i = 0; i < found; i++)
      memset(is_huge + (regions[i].start - start) / PAGE, 1,
             (regions[i].end - regions[i].start) / PAGE);
    if (arg.walk_end <= arg.start) return;
    arg.start = arg.walk_end;
  }
}

static uint8_t absent_state(uint64_t entry) {
  if (entry & PM_GUARD) return GUARDED;
  if (!(entry & PM_SWAP)) return NONE;
  uint64_t type = SWAP_TYPE(entry);
  if (type < FIRST_SPECIAL_TYPE) return SWAPPED;
  return type == 31 ? GUARDED : type >= 27 && type <= 30 ? MIGRATING : POISONED;
}

static uint16_t bits_of(uint64_t entry, uint64_t flags) {
  static const uint64_t kernel_bits[] = {KPF_DIRTY, KPF_ACTIVE, KPF_REFERENCED, KPF_MLOCKED,
                                         KPF_UNEVICTABLE, KPF_SWAPBACKED, KPF_UPTODATE,
                                         KPF_SWAPCACHE, KPF_LRU};
  uint16_t bits = 0;
  if (entry & PM_EXCLUSIVE) bits |= 1;
  for (int i = 0; i < 9; i++)
    if (flags & kernel_bits[i]) bits |= (uint16_t)(2 << i);
  if (entry & PM_UFFD_WP) bits |= 1 << 10;
  return bits;
}

/* The folio of the run's frame `at`, half-open; neighbours are asked about one after the other. */
static void find_folio(uint32_t at, uint32_t nr_frames, uint32_t *head, uint32_t *end) {
  if (at >= *head && at < *end) return;
  *head = at;
  *end = at + 1;
  if (!(run_flags[at] & (KPF_HEAD | KPF_TAIL))) return;
  while (*head > 0 && !(run_flags[*head] & KPF_HEAD)) --*head;
  while (*end < nr_frames && run_flags[*end] & KPF_TAIL) ++*end;
}

/* Fills the record of one present page; `at` is its place in the run that begins with frame `first`. */
static void describe(struct page_record *page, uint64_t entry, int huge, uint32_t at,
                     uint64_t first, uint32_t head, uint32_t end) {
  uint64_t flags = run_flags[at];
  page->bits = bits_of(entry, flags);
  if (flags & KPF_ZERO) {
    page->state = huge ? HUGE_ZERO : ZERO;
    page->bits &= 1 << 10;
    return;
  }
  page->head = (uint32_t)(first + head);
  page->index = (uint16_t)(at - head);
  page->order = (uint8_t)(31 - __builtin_clz(end - head));
  page->mapcount = (uint32_t)run_counts[at];
  if (huge)
    page->state = HUGE_PMD;
  else if (entry & PM_FILE)
    page->state = FILE_PAGE;
  else
    page->state = page->order > 0 ? PART : SMALL;
}

static int by_number(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* The frames that run_flags and run_counts hold; of this observation only. */
static uint64_t run_first;
static uint32_t run_nr;

void observe_begin(void) { run_nr = 0; }

static void read_run(uint64_t first, uint32_t nr) {
  // Processes that share a folio are looked at one after the other.
  if (first == run_first && nr == run_nr) return;
  run_first = first;
  run_nr = nr;
  memset(run_flags, 0, nr * 8);
  memset(run_counts, 0, nr * 8);
  if (pread(flags_fd, run_flags, nr * 8, (off_t)(first * 8)) < 0) return;
  if (pread(count_fd, run_counts, nr * 8, (off_t)(first * 8)) < 0) return;
}

/* Reads the frames in clusters that begin and end at multiples of 512 where a large folio is met, and fills the records. */
static void describe_present(struct page_record *pages, uint32_t nr_present) {
  for (uint32_t i = 0; i < nr_present;) {
    uint64_t frame = sorted[i] >> 18, first = frame, last = frame;
    uint32_t next = i + 1;
    for (; next < nr_present; next++) {
      uint64_t other = sorted[next] >> 18;
      if (other - last > 32 || other - first >= 512) break;
      last = other;
    }
    uint32_t nr_frames = (uint32_t)(last - first + 1);
    int is_compound = is_huge[sorted[i] & (MAX_PAGES - 1)];
    if (!is_compound) read_run(first, nr_frames);
    for (uint32_t k = 0; k < nr_frames && !is_compound; k++)
      is_compound = (run_flags[k] & (KPF_HEAD | KPF_TAIL)) != 0;
    if (is_compound) {
      first = first / 512 * 512;
      nr_frames = (uint32_t)((last / 512 + 1) * 512 - first);
      read_run(first, nr_frames);
    }
    for (uint32_t head = 0, end = 0; i < next; i++) {
      uint32_t page = (uint32_t)(sorted[i] & (MAX_PAGES - 1));
      uint32_t at = (uint32_t)((sorted[i] >> 18) - first);
      find_folio(at, nr_frames, &head, &end);
      describe(&pages[page], entries[page], is_huge[page], at, first, head, end);
    }
  }
}

void put_pages(struct watched *w, uint64_t start, uint32_t nr) {
  struct page_record *pages = put_room(nr * sizeof *pages);
  if (nr > MAX_PAGES) return;
  if (pread(w->pagemap, entries, nr * 8, (off_t)(start / PAGE * 8)) != (ssize_t)(nr * 8)) return;
  uint32_t nr_present = 0;
  for (uint32_t i = 0; i < nr; i++) {
    if (entries[i] & PM_PRESENT)
      sorted[nr_present++] = (entries[i] & PM_FRAME) << 18 | i;
    else
      pages[i].state = absent_state(entries[i]);
    if (!(entries[i] & PM_PRESENT) && entries[i] & PM_UFFD_WP) pages[i].bits = 1 << 10;
  }
  if (nr_present == 0) return;
  scan_huge(w, start, nr);
  int is_sorted = 1;
  for (uint32_t i = 1; i < nr_present && is_sorted; i++) is_sorted = sorted[i - 1] <= sorted[i];
  if (!is_sorted) qsort(sorted, nr_present, 8, by_number);
  describe_present(pages, nr_present);
}

void put_contents(struct watched *w, uint64_t start, uint32_t nr, uint32_t step) {
  static const char zero[PAGE];
  static char page[PAGE];
  for (uint32_t i = 0; i < nr; i++) {
    uint64_t entry = 0, address = start + (uint64_t)i * step * PAGE;
    uint8_t is = 0;
    ssize_t n = pread(w->pagemap, &entry, 8, (off_t)(address / PAGE * 8));
    // A page that is not there would be faulted in by reading it.
    if (n == 8 && entry & PM_PRESENT && pread(w->mem, page, PAGE, (off_t)address) == (ssize_t)PAGE)
      is = memcmp(page, zero, PAGE) ? 2 : 1;
    put_bytes(&is, 1);
  }
}

/* ---- VMAs ------------------------------------------------------------------------------------------------------ */

static const char *const SMAPS_NAMES[NR_SMAPS] = {
    "Size", "Rss", "Pss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty",
    "Anonymous", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Swap", "SwapPss",
    "Locked", "THPeligible"};

static char *read_text_of(int fd) {
  ssize_t n = 0;
  for (ssize_t got; n < (ssize_t)TEXT_BYTES - 1; n += got) {
    got = pread(fd, text + n, TEXT_BYTES - 1 - (size_t)n, n);
    if (got <= 0) break;
  }
  text[n] = 0;
  return text;
}

static void take_field(struct vma_record *vma, const char *line, const char *colon) {
  size_t length = (size_t)(colon - line);
  if (length == 7 && !memcmp(line, "VmFlags", 7)) {
    snprintf(vma->flags, sizeof vma->flags, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    return;
  }
  for (int i = 0; i < NR_SMAPS; i++)
    if (SMAPS_NAMES[i][length] == 0 && !memcmp(SMAPS_NAMES[i], line, length)) {
      vma->kb[i] = (uint32_t)strtoul(colon + 1, NULL, 10);
      return;
    }
}

/* Parses one VMA's lines; returns the line after them. */
static char *take_vma(struct vma_record *vma, char *line) {
  memset(vma, 0, sizeof *vma);
  char *end;
  vma->start = strtoul(line, &end, 16);
  vma->end = strtoul(end + 1, &end, 16);
  memcpy(vma->permissions, end + 1, 4);
  for (line += strcspn(line, "\n") + 1; *line >= 'A' && *line <= 'Z';) {
    char *colon = strchr(line, ':');
    if (!colon) break;
    take_field(vma, line, colon);
    line += strcspn(line, "\n");
    if (*line) line++;
  }
  return line;
}

void put_vmas(struct watched *w) {
  uint32_t *nr = put_room(4);
  uint64_t own_anonymous = 0, own_locked = 0;
  struct vma_record vma;
  for (char *line = read_text_of(w->smaps); *line;) {
    line = take_vma(&vma, line);
    if (vma.start >= 1ul << 47) continue;
    if (vma.end > OWN_END) {
      memcpy(put_room(sizeof vma), &vma, sizeof vma);
      ++*nr;
      continue;
    }
    own_anonymous += vma.kb[7];
    if (strstr(vma.flags, "lo ")) own_locked += vma.kb[0];
  }
  put_u64(own_anonymous);
  put_u64(own_locked);
}

/* ---- Status ---------------------------------------------------------------------------------------------------- */

void put_status(struct watched *w) {
  static const char *const names[NR_STATUS] = {"VmLck:", "VmPin:", "RssAnon:", "VmPTE:", "VmSwap:",
                                               "THP_enabled:"};
  char *all = read_text_of(w->status);
  for (int i = 0; i < NR_STATUS; i++) {
    char *at = strstr(all, names[i]);
    put_u64(at ? strtoull(at + strlen(names[i]), NULL, 10) : 0);
  }
}
