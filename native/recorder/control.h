/*
 * The memory all recorded processes and the launcher share: one control block, then a ring of bytes.
 *
 * Every process appends its events to the one ring under one lock, so the ring's order is the recording's order and
 * nothing has to be merged. The launcher alone takes bytes out and passes them on, so a process that is killed can at
 * worst lose what it had not yet appended; it cannot tear a record.
 *
 * Events are described in docs/recording.md ("The raw stream").
 */
#ifndef RECORDER_CONTROL_H
#define RECORDER_CONTROL_H

#include <stdatomic.h>
#include <stdint.h>

#define CONTROL_MAGIC 0x31636572626c7568ull
#define RING_BYTES (16u << 20)
#define MAX_PROCESSES 8192
#define PATH_BYTES 4096

enum event {
  EV_TIME = 1,
  EV_PROCESS,
  EV_EXEC,
  EV_THREAD,
  EV_THREAD_EXIT,
  EV_EXIT,
  EV_IMAGE,
  EV_SYSCALL,
  EV_TOUCH,
  EV_WINDOW_BEGIN,
  EV_ACCESSES,
  EV_WINDOW_END,
  EV_COUNTS,
  EV_NOTE,
  EV_PROGRESS,
  EV_FAILED,
  EV_END,
};

enum image_kind { IMAGE_FILE, IMAGE_ANONYMOUS, IMAGE_STACK };
enum start_kind { START_EXEC, START_FORK, START_VFORK };

/* One recorded process. A row is taken when the process appears and never given back. */
struct process_row {
  _Atomic int32_t pid;      /* 0 while unknown: its parent has announced it, it has not run yet */
  uint32_t thread;          /* number of the thread that goes on after exec */
  _Atomic uint32_t is_over; /* its exit was recorded */
};

/* A run of first touches that may still grow; lives here so that a killed process does not take it along. */
struct touch_run {
  uint32_t thread;
  uint32_t is_write;
  uint64_t page;
  uint64_t nr_pages; /* 0: no run pending */
  uint64_t tick;
};

struct control {
  uint64_t magic;
  int32_t launcher;
  _Atomic uint32_t lock; /* tid of the holder, 0 if free */
  _Atomic uint32_t stop; /* nobody listens any more: append nothing */
  _Atomic uint32_t reader_bell, writer_bell;
  _Atomic uint64_t head, tail; /* bytes appended and taken, both only grow */

  _Atomic uint64_t ticks;    /* instructions executed by all processes */
  _Atomic uint64_t accesses; /* data accesses of all processes */
  _Atomic uint64_t touches;  /* first touches recorded */

  /* Under `lock`. */
  uint64_t last_tick; /* as last written to the ring */
  uint64_t last_page;
  struct touch_run run;
  _Atomic uint32_t nr_processes;
  uint32_t nr_threads;

  /* Written by the launcher before anybody else runs. */
  uint64_t interval_ticks;  /* length of a counting interval; 0: chosen as the run grows */
  uint64_t window_accesses; /* length of a sampled window; 0: no windows */
  uint64_t sample_every;    /* accesses from one window's start to the next; equal to the length: everything */
  char qemu[PATH_BYTES];
  char plugin[PATH_BYTES];

  struct process_row processes[MAX_PROCESSES];
};

#define RING_OFFSET ((sizeof(struct control) + 4095) / 4096 * 4096)
#define SHARED_BYTES (RING_OFFSET + RING_BYTES)

#endif
