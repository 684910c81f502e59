/*
 * The shared ring, written side. See stream.h; the lock and what survives a killed process are explained in control.h.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A run of touches that has grown for this long is written even if it could grow on: its time should mean something. */
#define RUN_TICKS 200000

struct control *control;

static uint8_t *ring;
/* One event at most: the largest is a batch of accesses or counts. */
static uint8_t scratch[160 << 10];
static uint32_t fill;

bool stream_attach(const char *path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  void *at = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (at == MAP_FAILED) return false;
  control = at;
  ring = (uint8_t *)at + RING_OFFSET;
  return control->magic == CONTROL_MAGIC;
}

static uint32_t my_tid(void) {
  return (uint32_t)syscall(SYS_gettid);
}

/* Also true for a process that ended and was not waited for: its entry is there, but it will never let go. */
static bool is_dead(uint32_t tid) {
  char path[32], text[512];
  snprintf(path, sizeof path, "/proc/%u/stat", tid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n > 0 ? n : 0] = 0;
  const char *state = strrchr(text, ')');
  return n <= 0 || (state && (state[2] == 'Z' || state[2] == 'X'));
}

static void nap(void) {
  struct timespec t = {0, 20000};
  nanosleep(&t, NULL);
}

void stream_lock(void) {
  uint32_t me = my_tid();
  for (unsigned tries = 0;; tries++) {
    uint32_t holder = 0;
    if (atomic_compare_exchange_strong(&control->lock, &holder, me)) return;
    if (tries < 200) {
      __builtin_ia32_pause();
      continue;
    }
    nap();
    /* A holder that was killed never lets go. What it had not ended is not in the ring, so the lock can be taken over. */
    if (tries % 64 == 0 && is_dead(holder))
      if (atomic_compare_exchange_strong(&control->lock, &holder, me)) return;
  }
}

void stream_unlock(void) {
  atomic_store(&control->lock, 0);
}

bool stream_is_mine(void) {
  return atomic_load(&control->lock) == my_tid();
}

void stream_unlock_after_exec(void) {
  if (stream_is_mine()) stream_unlock();
}

/* Waits until `size` bytes fit. The launcher empties the ring; without it the rest is dropped. */
static bool make_room(uint32_t size) {
  for (unsigned tries = 0;; tries++) {
    if (atomic_load(&control->stop)) return false;
    uint64_t used = atomic_load(&control->head) - atomic_load(&control->tail);
    if (used + size <= RING_BYTES) return true;
    atomic_fetch_add(&control->reader_bell, 1);
    syscall(SYS_futex, &control->reader_bell, FUTEX_WAKE, 1, NULL, NULL, 0);
    uint32_t bell = atomic_load(&control->writer_bell);
    struct timespec wait = {0, 5000000};
    syscall(SYS_futex, &control->writer_bell, FUTEX_WAIT, bell, &wait, NULL, 0);
    if (tries % 200 == 199 && kill(control->launcher, 0) < 0 && errno == ESRCH) atomic_store(&control->stop, 1);
  }
}

static void append(const uint8_t *bytes, uint32_t size) {
  if (!make_room(size)) return;
  uint64_t head = atomic_load(&control->head);
  uint32_t at = head % RING_BYTES;
  uint32_t first = size < RING_BYTES - at ? size : RING_BYTES - at;
  memcpy(ring + at, bytes, first);
  memcpy(ring, bytes + first, size - first);
  atomic_store(&control->head, head + size);
}

static uint32_t put_at(uint8_t *to, uint64_t value) {
  uint32_t n = 0;
  while (value >= 128) {
    to[n++] = (uint8_t)value | 128;
    value >>= 7;
  }
  to[n++] = (uint8_t)value;
  return n;
}

static uint64_t zigzag(int64_t value) {
  return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

/* Writes the time if it moved on. */
static void put_time(uint64_t tick) {
  if (tick <= control->last_tick) return;
  uint8_t bytes[16];
  bytes[0] = EV_TIME;
  uint32_t n = 1 + put_at(bytes + 1, tick - control->last_tick);
  control->last_tick = tick;
  append(bytes, n);
}

void stream_flush_run(void) {
  struct touch_run run = control->run;
  if (run.nr_pages == 0) return;
  control->run.nr_pages = 0;
  put_time(run.tick);
  uint8_t bytes[48];
  bytes[0] = EV_TOUCH;
  uint32_t n = 1;
  n += put_at(bytes + n, run.thread * 2 + run.is_write);
  n += put_at(bytes + n, zigzag((int64_t)(run.page - control->last_page)));
  n += put_at(bytes + n, run.nr_pages);
  control->last_page = run.page + run.nr_pages;
  append(bytes, n);
}

void stream_touch(uint32_t thread, bool is_write, uint64_t page) {
  struct touch_run *run = &control->run;
  uint64_t tick = atomic_load(&control->ticks);
  atomic_fetch_add_explicit(&control->touches, 1, memory_order_relaxed);
  bool grows = run->nr_pages > 0 && run->page + run->nr_pages == page && run->thread == thread &&
               run->is_write == is_write && tick - run->tick < RUN_TICKS;
  if (grows) {
    run->nr_pages++;
    return;
  }
  stream_flush_run();
  *run = (struct touch_run){.thread = thread, .is_write = is_write, .page = page, .nr_pages = 1, .tick = tick};
}

void stream_begin(enum event event) {
  stream_flush_run();
  put_time(atomic_load(&control->ticks));
  scratch[0] = event;
  fill = 1;
}

void stream_put(uint64_t value) {
  fill += put_at(scratch + fill, value);
}

void stream_put_signed(int64_t value) {
  stream_put(zigzag(value));
}

void stream_put_text(const char *text) {
  size_t size = strlen(text);
  if (size > PATH_BYTES) size = PATH_BYTES;
  stream_put(size);
  memcpy(scratch + fill, text, size);
  fill += size;
}

void stream_end(void) {
  append(scratch, fill);
  fill = 0;
}

void stream_note(const char *format, ...) {
  char text[PATH_BYTES + 200];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  bool had = stream_is_mine();
  if (!had) stream_lock();
  stream_begin(EV_NOTE);
  stream_put_text(text);
  stream_end();
  if (!had) stream_unlock();
}
