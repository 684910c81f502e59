/*
 * System calls: those that change mappings are told, those that read or write the program's memory count as accesses of
 * the calling thread, those that make and end processes go to process.c.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pages.h"
#include "recorder.h"
#include "stream.h"

#define PR_THP_DISABLE 41
#define ADVICE_DONTNEED 4
#define ADVICE_FREE 8
#define ADVICE_REMOVE 9
#define ADVICE_DONTNEED_LOCKED 24

static bool is_mapping_call(int64_t number) {
  switch (number) {
    case SYS_mmap:
    case SYS_mprotect:
    case SYS_munmap:
    case SYS_brk:
    case SYS_mremap:
    case SYS_madvise:
    case SYS_mlock:
    case SYS_munlock:
    case SYS_mlockall:
    case SYS_munlockall:
    case SYS_mlock2:
    case SYS_shmat:
    case SYS_shmdt:
      return true;
  }
  return false;
}

static uint64_t page_of(uint64_t addr) {
  return addr >> PAGE_SHIFT;
}

static uint64_t pages_in(uint64_t size) {
  return (size + 4095) >> PAGE_SHIFT;
}

/* ---- telling ---- */

static void tell_call(struct vcpu *v, int64_t number, int64_t result) {
  char path[PATH_BYTES] = "";
  bool has_file = number == SYS_mmap && !(v->arg[3] & MAP_ANONYMOUS);
  if (has_file) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", (int)v->arg[4]);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
  }
  tell_all();
  stream_lock();
  stream_begin(EV_SYSCALL);
  stream_put(self.process);
  stream_put(v->thread);
  stream_put((uint64_t)number);
  stream_put_signed(result);
  for (int i = 0; i < 6; i++) stream_put(v->arg[i]);
  stream_put_text(path);
  stream_end();
  stream_unlock();
}

static void forget(uint64_t page, uint64_t nr_pages) {
  filters_drop(page, nr_pages);
  pages_forget(page, nr_pages);
}

/* ---- mapping calls ---- */

static uint64_t heap_end;

static void brk_ended(uint64_t end) {
  uint64_t from = pages_in(heap_end), to = pages_in(end);
  if (heap_end && to < from) forget(to, from - to);
  if (heap_end && to > from) forget(from, to - from);
  heap_end = end;
}

static void mremap_ended(struct vcpu *v, uint64_t result) {
  uint64_t from = page_of(v->arg[0]), to = page_of(result);
  uint64_t old_pages = pages_in(v->arg[1]), new_pages = pages_in(v->arg[2]);
  uint64_t kept = old_pages < new_pages ? old_pages : new_pages;
  filters_drop(from, old_pages);
  if (from != to) {
    filters_drop(to, new_pages);
    pages_move(from, to, kept);
  }
  if (new_pages > kept) forget(to + kept, new_pages - kept);
  if (old_pages > kept) forget(from + kept, old_pages - kept);
}

static bool drops_pages(uint64_t advice) {
  return advice == ADVICE_DONTNEED || advice == ADVICE_FREE || advice == ADVICE_REMOVE ||
         advice == ADVICE_DONTNEED_LOCKED;
}

static void mapping_call_ended(struct vcpu *v, int64_t number, int64_t result) {
  bool has_failed = result < 0 && result > -4096;
  if (has_failed && number != SYS_madvise) return;
  sync_clock(v);
  tell_call(v, number, result);
  if (has_failed) return;
  if (number == SYS_mmap) forget(page_of((uint64_t)result), pages_in(v->arg[1]));
  if (number == SYS_munmap) forget(page_of(v->arg[0]), pages_in(v->arg[1]));
  if (number == SYS_brk) brk_ended((uint64_t)result);
  if (number == SYS_mremap) mremap_ended(v, (uint64_t)result);
  if (number == SYS_madvise && drops_pages(v->arg[2])) forget(page_of(v->arg[0]), pages_in(v->arg[1]));
}

/* ---- calls that read or write the program's memory ---- */

static void vector_touched(struct vcpu *v, uint64_t vector, uint64_t nr, uint64_t bytes, bool is_write) {
  struct iovec part;
  for (uint64_t i = 0; i < nr && i < 1024 && bytes > 0; i++) {
    if (!guest_read(vector + i * sizeof part, &part, sizeof part)) return;
    uint64_t size = part.iov_len < bytes ? part.iov_len : bytes;
    access_range(v, (uint64_t)part.iov_base, size, is_write);
    bytes -= size;
  }
}

static void message_touched(struct vcpu *v, uint64_t message, uint64_t bytes, bool is_write) {
  struct msghdr {
    uint64_t name;
    uint32_t name_size, pad;
    uint64_t vector, nr;
  } m;
  if (guest_read(message, &m, sizeof m)) vector_touched(v, m.vector, m.nr, bytes, is_write);
}

/* What the kernel wrote or read on the thread's behalf; `result` is not negative. */
static void memory_touched(struct vcpu *v, int64_t number, uint64_t result) {
  const uint64_t *a = v->arg;
  switch (number) {
    case SYS_read:
    case SYS_pread64:
    case SYS_recvfrom:
    case SYS_getdents64:
    case SYS_readlink:
      return access_range(v, a[1], result, true);
    case SYS_write:
    case SYS_pwrite64:
    case SYS_sendto:
      return access_range(v, a[1], result, false);
    case SYS_readv:
    case SYS_preadv:
      return vector_touched(v, a[1], a[2], result, true);
    case SYS_writev:
    case SYS_pwritev:
      return vector_touched(v, a[1], a[2], result, false);
    case SYS_recvmsg:
      return message_touched(v, a[1], result, true);
    case SYS_sendmsg:
      return message_touched(v, a[1], result, false);
    case SYS_getrandom:
    case SYS_getcwd:
      return access_range(v, a[0], result, true);
    case SYS_readlinkat:
      return access_range(v, a[2], result, true);
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
      return access_range(v, a[1], result * 12, true);
    case SYS_stat:
    case SYS_lstat:
    case SYS_fstat:
      return access_range(v, a[1], 144, true);
    case SYS_newfstatat:
      return access_range(v, a[2], 144, true);
    case SYS_statx:
      return access_range(v, a[4], 256, true);
  }
}

/* ---- entry points ---- */

/* CLONE_VFORK wins over CLONE_VM: QEMU makes a process of it. */
static bool makes_thread(int64_t number, uint64_t flags) {
  return number == SYS_clone && (flags & CLONE_VM) && !(flags & CLONE_VFORK);
}

static bool makes_process(int64_t number, uint64_t flags) {
  return number == SYS_fork || number == SYS_vfork || (number == SYS_clone && !makes_thread(number, flags));
}

static bool needs_map_mutex(struct vcpu *v, int64_t number) {
  return is_mapping_call(number) || makes_process(number, v->arg[0]);
}

static bool is_last_thread(void) {
  int alive = 0;
  for (uint32_t i = 0; i < self.nr_vcpus; i++) alive += vcpus[i] && !vcpus[i]->is_gone;
  return alive <= 1;
}

void syscall_begins(struct vcpu *v, int64_t number) {
  if (number == SYS_execve) return process_execs(v, v->arg[0], v->arg[1], v->arg[2]);
  if (number == SYS_exit_group || (number == SYS_exit && is_last_thread()))
    return process_exits((uint32_t)v->arg[0] & 255);
  if (self.is_quiet) return;

  if (needs_map_mutex(v, number)) {
    pthread_mutex_lock(&map_mutex);
    v->holds_map_mutex = true;
  }
  if (makes_thread(number, v->arg[0])) self.is_threaded = true;
  if (makes_process(number, v->arg[0]))
    process_forks(number == SYS_vfork || (number == SYS_clone && (v->arg[0] & CLONE_VFORK)));
  if (number == SYS_exit) {
    process_lock();
    vcpu_finish(v);
    stream_lock();
    stream_begin(EV_THREAD_EXIT);
    stream_put(v->thread);
    stream_end();
    stream_unlock();
    process_unlock();
  }
}

void syscall_ends(struct vcpu *v, int64_t number, int64_t result) {
  if (self.is_quiet || v->is_gone) return;
  process_lock();
  if (self.is_quiet) return process_unlock();
  if (is_mapping_call(number))
    mapping_call_ended(v, number, result);
  else if (number == SYS_prctl && v->arg[0] == PR_THP_DISABLE && result == 0)
    tell_call(v, number, result);
  else if (result >= 0)
    memory_touched(v, number, (uint64_t)result);
  process_unlock();
  if (number == SYS_wait4 && result > 0 && v->arg[1]) {
    int32_t status;
    if (guest_read(v->arg[1], &status, sizeof status)) process_waited((int32_t)result, status);
  }
  if (v->holds_map_mutex) {
    v->holds_map_mutex = false;
    pthread_mutex_unlock(&map_mutex);
  }
}
