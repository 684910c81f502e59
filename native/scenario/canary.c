/*
 * A folio of 32 kB, of which one page is given back and one is held by a pipe: it stays queued and its split always fails. The size
 * is one that scenarios rarely use; its counters are read here only.
 */
#define _GNU_SOURCE
#include "canary.h"
#include "lease.h"
#include "protocol.h"
#include "undo.h"
#include "wire.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SIZE (32ul << 10)
#define KNOB "/sys/kernel/mm/transparent_hugepage/hugepages-32kB/enabled"
#define FAILURES "/sys/kernel/mm/transparent_hugepage/hugepages-32kB/stats/split_failed"

static int has_canary;

void canary_start(void) {
  int pipe_ends[2];
  if (has_canary || pipe2(pipe_ends, O_CLOEXEC)) return;
  has_canary = 1;
  char *area = private_memory(2 * SIZE);
  char *folio = (char *)(((uintptr_t)area + SIZE - 1) & ~(SIZE - 1));
  madvise(folio, SIZE, MADV_HUGEPAGE);
  if (knob_write(KNOB, "madvise")) return;
  folio[0] = 1;
  knob_write(KNOB, "never");
  struct iovec page = {folio, 1};
  vmsplice(pipe_ends[1], &page, 1, 0);
  madvise(folio + PAGE, PAGE, MADV_DONTNEED);
}

long canary_failures(void) {
  char text[32];
  return read_text(FAILURES, text, sizeof text) > 0 ? atol(text) : 0;
}
