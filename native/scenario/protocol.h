/*
 * What the caller (src/cli/kernel-supervisor.ts) and the supervisor say to each other, and the supervisor to its actors.
 *
 * Caller to supervisor, on its standard input and output: a frame is u32 length of what follows, then u32 verb (request) or
 * s32 status (answer), then fields without padding, little endian. One request, one answer, in order. A string is u32
 * length and bytes. A status below 0 is -errno and is followed by a string that says what failed; FAILED_* say more.
 * End of standard input ends the supervisor; everything it changed is put back (undo.c).
 *
 * Supervisor to actor, on a SOCK_SEQPACKET pair per channel: one struct request, one struct reply. Values read and
 * residency vectors lie in the shared page area `shared->values`. Only one actor acts at a time.
 */
#ifndef SCENARIO_PROTOCOL_H
#define SCENARIO_PROTOCOL_H

#include <stdint.h>

#define PAGE 4096ul
#define HUGE (2ul << 20)

/* Processes and threads of one scenario; threads and pins of one process. */
#define MAX_CHANNELS 24
#define MAX_STACKS 8
#define MAX_PINS 32

/* Verbs of the caller. What follows each: "->" what its answer carries. */
enum verb {
  V_HELLO = 1,   /* -> string of vmstat's names, string of per-size stats' names, one a line */
  V_BEGIN,       /* u32 lock wait in s, u64 swap bytes, u32 n, n x (path, value) */
  V_CALL,        /* u32 channel, u64 number, 6 x u64 -> s64 result */
  V_TOUCH,       /* u32 channel, u64 address, u32 n, u32 step in pages, u32 is write, u64 value
                    -> s32 signal, u32 pages done, n x u64 values (reads) */
  V_MINCORE,     /* u32 channel, u64 address, u64 length -> s64 result, string: one byte a page */
  V_FORK,        /* u32 channel, u32 channel of the child -> s64 result (pid or -errno) */
  V_THREAD,      /* u32 channel, u32 channel of the thread -> s64 result */
  V_EXIT,        /* u32 channel -> s64 0; a thread ends alone, a process with its threads */
  V_PIN,         /* u32 channel, u32 slot, u64 address, u64 length -> s64 result */
  V_HOLD,        /* u32 channel, u32 slot, u64 address -> s64 result */
  V_RELEASE,     /* u32 channel, u32 slot -> s64 result */
  V_WRITE_KNOB,  /* path, value -> s64 result */
  V_READ_KNOB,   /* path -> s64 result, string */
  V_MEMCG,       /* name, s64 limit in bytes or -1 -> s64 result; a known name gets a new limit */
  V_JOIN,        /* u32 channel, name -> s64 result */
  V_SWAP,        /* u32 1 on, 0 off -> s64 result */
  V_DROP_CACHES, /* -> s64 result */
  V_OBSERVE,     /* u32 drain, u32 n, n x (u32 channel, u32 m, m x (u64 start, u32 pages)) -> observe.c */
  V_PEEK,        /* u32 channel, u64 address, u32 n, u32 step in pages -> n bytes: 0 not present, 1 zero, 2 not zero */
  V_KHUGEPAGED,  /* u32 passes -> s64 0: that many wake-ups of the daemon */
  V_PROCESS_MADVISE, /* u32 channel, u32 PIDFD_*, u32 channel of the target, u32 n, n x (u64 start, s64 length),
                        s64 vlen, s64 advice, s64 flags, u32 1 if the vector cannot be read -> s64 result */
  V_TRACE,       /* -> s64 1 if events can be traced: gets to know all processes, forgets older events */
  V_EVENTS,      /* -> u32 n, n x (u32 channel of the address space, string): huge_memory events, oldest first */
  V_END,         /* -> u32 1 if an allocation failed that should not have */
};

/* Whom process_madvise names. */
enum pidfd { PIDFD_OF_TARGET, PIDFD_SELF_NUMBER, PIDFD_BAD, PIDFD_ZOMBIE, PIDFD_REAPED, PIDFD_KERNEL_THREAD };

/* Statuses that are no errno. */
enum failure {
  FAILED_LOCK = -1001,     /* somebody else held the kernel's lock for too long */
  FAILED_MEMORY = -1002,   /* not enough free blocks of 2 MiB */
  FAILED_DEAD = -1003,     /* a process of the scenario died */
  FAILED_STUCK = -1004,    /* a process of the scenario did not answer in time */
  FAILED_FACILITY = -1005, /* the kernel lacks something: zram, io_uring, memcg */
  FAILED_PROTOCOL = -1006,
};

/* One page of an observation; `state` is an index of PAGE_STATES (src/scenario/observation.ts). */
struct page_record {
  uint32_t head; /* frame of the folio's head, 0 none */
  uint32_t mapcount;
  uint16_t index;
  uint16_t bits; /* PAGE_BIT (src/scenario/observation.ts) */
  uint8_t order;
  uint8_t state;
  uint16_t unused;
};

/* One VMA outside the actor's own memory. `kb`: SMAPS_FIELDS (src/scenario/observation.ts), in that order. */
#define NR_SMAPS 16
struct vma_record {
  uint64_t start, end;
  char permissions[8];
  uint32_t kb[NR_SMAPS];
  char flags[104];
};

/* Numbers of /proc/PID/status: STATUS_FIELDS (src/scenario/observation.ts), in that order. */
#define NR_STATUS 6

enum op {
  OP_CALL,
  OP_TOUCH,
  OP_MINCORE,
  OP_FORK,
  OP_THREAD,
  OP_EXIT,
  OP_EXIT_THREAD,
  OP_PIN,
  OP_HOLD,
  OP_RELEASE,
  OP_IDENTIFY,
  OP_PROCESS_MADVISE,
};

struct request {
  uint32_t op;
  uint64_t args[7];
};

struct reply {
  int64_t result;
  int32_t signal;   /* that a touch met, or 0 */
  uint32_t nr_done; /* pages touched before it */
  int64_t minflt, majflt; /* of this operation alone */
};

/* Fixed places: the actors' memory must not lie where mmap would choose. */
#define SHARED_ADDRESS 0x20000000ul
/* Where a process maps something for a moment to be known by. */
#define IDENTIFY_ADDRESS 0x30000000ul
#define OWN_END 0x40000000ul
#define HEAP_START 0x555555600000ul /* where the model has it */
#define ACTOR_FD 500 /* + channel: the actor's end */
#define SUPER_FD 600 /* + channel: the end of the supervisor, whose other descriptors lie below ZERO_FD */
#define ZERO_FD 499

#define VALUES_MAX 8192
/* Elements of an iovec: the kernel takes 1024, one more is an error that can be shown. */
#define MAX_VECTOR 1025
struct shared {
  uint64_t values[VALUES_MAX];
};

#endif
