/*
 * What the plugin's parts share: the state of one recorded process and of its threads.
 *
 * Locks, outermost first: map_mutex (from a mapping call's start to its end, so that the recording has them in the order
 * in which they happened; only while a syscall runs, never while guest code does) > process lock (pages, vcpus) > stream
 * lock (control.h). With one thread the process lock is not taken.
 */
#ifndef RECORDER_H
#define RECORDER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "control.h"

#define PAGE_SHIFT 12
#define MAX_VCPUS 65536
/* The filter of recently used pages: direct-mapped, one word a slot. */
#define SLOTS 1024
#define EMPTY_SLOT (~(uint64_t)0)
#define COUNT_BITS 27
/* Accesses after which a filter's counts are taken out, so that none overflows. */
#define FLUSH_EVERY (1u << (COUNT_BITS - 1))
/* Entries of a window kept before they are appended. */
#define BATCH 4096

struct window_entry {
  uint64_t page;
  uint32_t count;
  uint32_t is_write;
};

struct vcpu {
  /* Accesses until the slow path must look up; `armed` is what it was set to. */
  int64_t left;
  int64_t armed;
  /* key << COUNT_BITS | accesses not yet counted, where key = page * 2 + is_write. */
  uint64_t slots[SLOTS];
  int64_t until_flush;
  uint32_t thread;
  bool is_gone;

  /* Instructions executed; used once there are several threads. */
  uint64_t insns, synced;

  /* Sampled windows. */
  bool in_window;
  uint64_t until_change; /* accesses until the window begins or ends */
  uint64_t period;       /* from the start of one window to the next */
  uint64_t represented;  /* accesses since the last window ended */
  struct window_entry batch[BATCH];
  uint32_t nr_batch;

  /* A first read not yet told: if the same instruction goes on to write there, the kernel saw one write fault. */
  bool has_read_pending;
  uint64_t read_page, read_vaddr;
  void *read_pc;

  /* The syscall under way. */
  uint64_t arg[6];
  bool holds_map_mutex;
};

struct recorder {
  uint32_t process;
  bool is_quiet;    /* a vfork child before exec: it runs in its parent's memory */
  bool is_threaded; /* a second thread was made at some time */
  bool has_image;
  uint64_t inline_insns, inline_synced; /* counted by generated code while there is one thread */
  uint64_t insns, next_interval;        /* this process's instructions, and where its interval ends */
  uint32_t nr_intervals;
  uint32_t nr_vcpus; /* highest index used + 1 */
};

#pragma GCC visibility push(hidden)
extern struct recorder self;
extern struct vcpu *vcpus[MAX_VCPUS];
/* The first thread's, at a fixed place: while there is no other thread, generated code comes here without a look-up. */
extern struct vcpu first_vcpu;
extern pthread_mutex_t process_mutex, map_mutex;
/* The vcpu whose syscall this host thread is in. */
extern __thread struct vcpu *current;
#pragma GCC visibility pop

static inline void process_lock(void) {
  if (self.is_threaded) pthread_mutex_lock(&process_mutex);
}

static inline void process_unlock(void) {
  if (self.is_threaded) pthread_mutex_unlock(&process_mutex);
}

/* access.c, all under the process lock. */
void on_access(unsigned index, uint32_t info, uint64_t vaddr, void *pc);
void on_access_alone(unsigned index, uint32_t info, uint64_t vaddr, void *pc);
void vcpu_reset(struct vcpu *v, uint32_t thread);
/* The instruction at vaddr is about to run for the first time. */
void see_code(uint64_t vaddr);
/* The kernel reads or writes guest memory in the thread's name. */
void access_range(struct vcpu *v, uint64_t addr, uint64_t size, bool is_write);
/* The pages may have to be seen anew: counts what the filters hold and empties them. */
void filters_drop(uint64_t page, uint64_t nr_pages);
void filters_drop_all(void);
/* Tells everything that is held back, so that another event may follow. */
void tell_all(void);
/* The thread's time is added to the clock. */
void sync_clock(struct vcpu *v);
void end_interval(void);
/* The thread runs no more guest code. */
void vcpu_finish(struct vcpu *v);

/* syscalls.c */
void syscall_begins(struct vcpu *v, int64_t number);
void syscall_ends(struct vcpu *v, int64_t number, int64_t result);

/* process.c */
bool process_starts(const char *control_path);
void process_image(void);
void process_forks(bool is_vfork);
/* Runs the program under the recorder; returns only if that is not possible. */
void process_execs(struct vcpu *v, uint64_t path, uint64_t argv, uint64_t envp);
void process_exits(uint32_t status);
void process_waited(int32_t pid, int32_t status);
bool guest_read(uint64_t addr, void *to, uint64_t size);
bool guest_text(uint64_t addr, char *to, uint64_t room);

#endif
