/*
 * The actor: one process or thread of the scenario.
 *
 * Holds: between its two looks at its fault counters it touches no memory of its own that could fault, so the faults counted
 *        are those of the operation. For this all its own memory is private already (populated for writing after every
 *        fork), its stack lies in it, and it makes raw system calls (threads share errno's place).
 * Holds: outside of [0, OWN_END) it has nothing mapped, so mmap places as in an empty process; its heap starts at
 *        HEAP_START.
 */
#define _GNU_SOURCE
#include "actor.h"
#include "protocol.h"
#include "undo.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define STACK_BYTES 16384
#define MAX_OWN 24

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

struct own_vma {
  uint64_t start, end;
  int is_writable;
};

struct pin {
  int fd;       /* of the ring, or of the pipe's reading end; 0: free */
  int other_fd; /* of the pipe's writing end */
};

/* What an actor changes, all in one page. Private: a fork's child goes on with a copy. */
static struct {
  sigjmp_buf back;
  volatile int is_touching;
  volatile int signal;
  int nr_stacks;
  struct pin pins[MAX_PINS];
} state __attribute__((aligned(4096)));

static char stacks[MAX_STACKS][STACK_BYTES] __attribute__((aligned(4096)));
static struct own_vma own[MAX_OWN];
static int nr_own;
static struct own_vma gone[8]; /* the first stack and the vdso, which actors give up */
static int nr_gone;
static struct prctl_mm_map heap_map;

static struct shared *const shared = (struct shared *)SHARED_ADDRESS;

static inline int64_t raw(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                          uint64_t f) {
  int64_t result;
  register uint64_t r10 __asm__("r10") = d;
  register uint64_t r8 __asm__("r8") = e;
  register uint64_t r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

/* ---- Its own memory ------------------------------------------------------------------------------------------ */

static void note_own_vmas(void) {
  static char text[16384];
  int fd = open("/proc/self/maps", O_RDONLY), n = 0;
  for (ssize_t got; (got = read(fd, text + n, sizeof text - 1 - (size_t)n)) > 0;) n += (int)got;
  close(fd);
  text[n] = 0;
  for (char *line = text; *line;) {
    uint64_t start, end;
    char permissions[5];
    if (sscanf(line, "%lx-%lx %4s", &start, &end, permissions) == 3 && start < 1ul << 47) {
      struct own_vma vma = {start, end, permissions[1] == 'w' && permissions[3] == 'p'};
      int is_kept = end <= OWN_END;
      if (is_kept && nr_own < MAX_OWN) own[nr_own++] = vma;
      if (!is_kept && line[strcspn(line, "[\n")] == '[' && nr_gone < 8) gone[nr_gone++] = vma;
    }
    line += strcspn(line, "\n");
    if (*line) line++;
  }
}

/* The fields of the kernel's own record of this program that PR_SET_MM_MAP wants back. */
static void note_heap_map(void) {
  char text[2048];
  unsigned long field[64] = {0};
  int n = read_text("/proc/self/stat", text, sizeof text);
  char *at = n > 0 ? strrchr(text, ')') : NULL;
  for (int i = 3; at && i < 53; i++) {
    at = strchr(at + 1, ' ');
    if (at) field[i] = strtoul(at + 1, NULL, 10);
  }
  heap_map = (struct prctl_mm_map){
      .start_code = field[26], .end_code = field[27], .start_data = field[45], .end_data = field[46],
      .start_brk = HEAP_START, .brk = HEAP_START,
      .start_stack = field[28], .arg_start = field[48], .arg_end = field[49],
      .env_start = field[50], .env_end = field[51], .exe_fd = (uint32_t)-1,
  };
}

void actor_prepare(void) {
  note_heap_map();
  note_own_vmas();
}

/* Breaks the sharing with the parent and maps what is not mapped yet. */
static void own_everything(void) {
  for (int i = 0; i < nr_own; i++)
    raw(SYS_madvise, own[i].start, own[i].end - own[i].start,
        own[i].is_writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ, 0, 0, 0);
}

/* ---- Touches ------------------------------------------------------------------------------------------------- */

static void on_fault(int number) {
  if (!state.is_touching) raw(SYS_exit_group, 99, 0, 0, 0, 0, 0);
  state.signal = number;
  siglongjmp(state.back, 1);
}

static void touch(const struct request *request, struct reply *reply) {
  uint64_t address = request->args[0], nr = request->args[1], step = request->args[2] * PAGE;
  uint64_t value = request->args[4];
  volatile uint32_t done = 0;
  state.signal = 0;
  state.is_touching = 1;
  if (sigsetjmp(state.back, 0) == 0) {
    for (uint32_t i = 0; i < nr; i++, done = i) {
      volatile uint64_t *word = (volatile uint64_t *)(address + i * step);
      if (request->args[3])
        *word = value + i;
      else
        shared->values[i] = *word;
    }
  }
  state.is_touching = 0;
  reply->signal = state.signal;
  reply->nr_done = done;
}

/* ---- Pins and holds ------------------------------------------------------------------------------------------ */

static int64_t pin(struct pin *pin, uint64_t address, uint64_t length) {
  struct io_uring_params params;
  memset(&params, 0, sizeof params);
  int64_t fd = raw(SYS_io_uring_setup, 1, (uint64_t)&params, 0, 0, 0, 0);
  if (fd < 0) return fd;
  struct iovec buffer = {(void *)address, length};
  int64_t result = raw(SYS_io_uring_register, (uint64_t)fd, IORING_REGISTER_BUFFERS,
                       (uint64_t)&buffer, 1, 0, 0);
  if (result < 0)
    raw(SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
  else
    *pin = (struct pin){(int)fd, 0};
  return result;
}

static int64_t hold(struct pin *pin, uint64_t address) {
  int ends[2];
  int64_t result = raw(SYS_pipe2, (uint64_t)ends, O_CLOEXEC, 0, 0, 0, 0);
  if (result < 0) return result;
  struct iovec page = {(void *)address, 1};
  result = raw(SYS_vmsplice, (uint64_t)ends[1], (uint64_t)&page, 1, 0, 0, 0);
  if (result < 0) {
    raw(SYS_close, (uint64_t)ends[0], 0, 0, 0, 0, 0);
    raw(SYS_close, (uint64_t)ends[1], 0, 0, 0, 0, 0);
    return result;
  }
  *pin = (struct pin){ends[0], ends[1]};
  return 0;
}

static int64_t release(struct pin *pin) {
  if (pin->fd == 0) return -EBADF;
  // The ring goes away some time after its close: its buffers are given back before.
  if (pin->other_fd == 0)
    raw(SYS_io_uring_register, (uint64_t)pin->fd, IORING_UNREGISTER_BUFFERS, 0, 0, 0, 0);
  raw(SYS_close, (uint64_t)pin->fd, 0, 0, 0, 0, 0);
  if (pin->other_fd) raw(SYS_close, (uint64_t)pin->other_fd, 0, 0, 0, 0, 0);
  *pin = (struct pin){0, 0};
  return 0;
}

/* ---- Processes and threads ------------------------------------------------------------------------------------ */

static void serve(uint64_t channel) __attribute__((noreturn));

static void say(uint64_t channel, const struct reply *reply) {
  if (raw(SYS_sendto, ACTOR_FD + channel, (uint64_t)reply, sizeof *reply, MSG_NOSIGNAL, 0, 0) < 0)
    raw(SYS_exit_group, 98, 0, 0, 0, 0, 0);
}

/* A fork's child: pins are its parent's, and every page of its own is made private before it says so. */
static void start_child(uint64_t channel) {
  for (int i = 0; i < MAX_PINS; i++) {
    if (state.pins[i].fd) raw(SYS_close, (uint64_t)state.pins[i].fd, 0, 0, 0, 0, 0);
    if (state.pins[i].other_fd) raw(SYS_close, (uint64_t)state.pins[i].other_fd, 0, 0, 0, 0, 0);
    state.pins[i] = (struct pin){0, 0};
  }
  own_everything();
  struct reply reply = {0};
  say(channel, &reply);
  serve(channel);
}

static int64_t fork_child(uint64_t channel) {
  int64_t pid = raw(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
  if (pid == 0) start_child(channel);
  return pid;
}

static void start_thread(uint64_t channel) {
  struct reply reply = {0};
  say(channel, &reply);
  serve(channel);
}

/* clone(2) onto a stack of our own; the thread shares everything, also the place of errno, which nobody uses. */
static int64_t new_thread(uint64_t channel) {
  if (state.nr_stacks == MAX_STACKS) return -EAGAIN;
  char *top = stacks[state.nr_stacks++] + STACK_BYTES - 64;
  uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  int64_t result;
  register uint64_t r10 __asm__("r10") = 0;
  register uint64_t r8 __asm__("r8") = 0;
  register uint64_t for_thread __asm__("r12") = channel;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r12, %%rdi\n\t"
      "call *%[start]\n\t"
      "1:"
      : "=a"(result)
      : "a"(SYS_clone), "D"(flags), "S"(top), "d"(0), "r"(r10), "r"(r8), "r"(for_thread),
        [start] "b"(start_thread)
      : "rcx", "r11", "memory");
  return result;
}

/* ---- Collapse -------------------------------------------------------------------------------------------------- */

/*
 * Emits an event that names this address space: the collapse of a region without page table, which is refused. Its memory is
 * such that it is not registered with khugepaged, whatever the scenario's knobs and prctl say.
 */
static void identify(void) {
  int64_t disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
  prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0);
  volatile char *area =
      mmap((void *)IDENTIFY_ADDRESS, 2 * HUGE, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  area[HUGE] = 1;
  raw(SYS_madvise, IDENTIFY_ADDRESS, HUGE, 25, 0, 0, 0);
  raw(SYS_munmap, IDENTIFY_ADDRESS, 2 * HUGE, 0, 0, 0, 0);
  prctl(PR_SET_THP_DISABLE, disabled != 0, disabled == 3 ? 2 : 0, 0, 0);
}

static int64_t open_target(uint64_t kind, uint64_t pid) {
  switch (kind) {
    case PIDFD_SELF_NUMBER: return -10000;
    case PIDFD_BAD: return -1;
    case PIDFD_ZOMBIE:
    case PIDFD_REAPED: {
      // This process ignores the deaths of its children no more than its parent did: it asks for a zombie.
      struct sigaction keep = {.sa_handler = SIG_DFL}, ignore = {.sa_handler = SIG_IGN};
      sigaction(SIGCHLD, &keep, NULL);
      int64_t child = raw(SYS_vfork, 0, 0, 0, 0, 0, 0);
      if (child == 0) raw(SYS_exit_group, 0, 0, 0, 0, 0, 0);
      int64_t fd = raw(SYS_pidfd_open, (uint64_t)child, 0, 0, 0, 0, 0);
      if (kind == PIDFD_REAPED) raw(SYS_wait4, (uint64_t)child, 0, 0, 0, 0, 0);
      sigaction(SIGCHLD, &ignore, NULL);
      return fd;
    }
    case PIDFD_KERNEL_THREAD: return raw(SYS_pidfd_open, 2, 0, 0, 0, 0, 0);
    default: return raw(SYS_pidfd_open, pid, 0, 0, 0, 0, 0);
  }
}

/* args: kind of pidfd, pid, vlen, advice, flags, 1 if the vector cannot be read; the vector lies in the shared page area. */
static int64_t process_madvise_call(const uint64_t *a) {
  int64_t fd = open_target(a[0], a[1]);
  if (fd < 0 && a[0] != PIDFD_SELF_NUMBER && a[0] != PIDFD_BAD) return fd;
  uint64_t vector = a[5] ? 8 : (uint64_t)shared->values;
  int64_t result = raw(SYS_process_madvise, (uint64_t)fd, vector, a[2], a[3], a[4], 0);
  if (fd >= 0) raw(SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
  return result;
}

/* ---- The loop ------------------------------------------------------------------------------------------------- */

static int64_t do_operation(const struct request *request, struct reply *reply) {
  const uint64_t *a = request->args;
  switch (request->op) {
    case OP_CALL:
      return raw(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    case OP_TOUCH:
      touch(request, reply);
      return 0;
    case OP_MINCORE:
      return raw(SYS_mincore, a[0], a[1], (uint64_t)shared->values, 0, 0, 0);
    case OP_FORK:
      return fork_child(a[0]);
    case OP_THREAD:
      return new_thread(a[0]);
    case OP_PIN:
      return pin(&state.pins[a[0] % MAX_PINS], a[1], a[2]);
    case OP_HOLD:
      return hold(&state.pins[a[0] % MAX_PINS], a[1]);
    case OP_RELEASE:
      return release(&state.pins[a[0] % MAX_PINS]);
    case OP_IDENTIFY:
      identify();
      return 0;
    case OP_PROCESS_MADVISE:
      return process_madvise_call(a);
    case OP_EXIT:
      raw(SYS_exit_group, 0, 0, 0, 0, 0, 0);
      break;
    case OP_EXIT_THREAD:
      raw(SYS_exit, 0, 0, 0, 0, 0, 0);
      break;
  }
  return -ENOSYS;
}

static void serve(uint64_t channel) {
  struct request request;
  struct reply reply;
  struct rusage before, after;
  for (;;) {
    if (raw(SYS_recvfrom, ACTOR_FD + channel, (uint64_t)&request, sizeof request, 0, 0, 0) !=
        sizeof request)
      raw(SYS_exit_group, 0, 0, 0, 0, 0, 0);
    memset(&reply, 0, sizeof reply);
    // The values' pages are shared memory, which a fork does not copy: map them before the faults are counted.
    for (unsigned i = 0; i < VALUES_MAX; i += PAGE / 8) {
      volatile uint64_t *word = &shared->values[i];
      *word = *word;
    }
    raw(SYS_getrusage, RUSAGE_THREAD, (uint64_t)&before, 0, 0, 0, 0);
    reply.result = do_operation(&request, &reply);
    if (request.op == OP_FORK) {
      own_everything();
    } else {
      raw(SYS_getrusage, RUSAGE_THREAD, (uint64_t)&after, 0, 0, 0, 0);
      reply.minflt = after.ru_minflt - before.ru_minflt;
      reply.majflt = after.ru_majflt - before.ru_majflt;
    }
    say(channel, &reply);
  }
}

/* Runs on the actor's own stack: gives up what lies where mmap would choose, and starts. */
static void settle(uint64_t channel) {
  for (int i = 0; i < nr_gone; i++)
    raw(SYS_munmap, gone[i].start, gone[i].end - gone[i].start, 0, 0, 0, 0);
  own_everything();
  prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
  struct reply reply = {0};
  say(channel, &reply);
  serve(channel);
}

void actor_become(uint32_t channel) {
  close_range(3, ZERO_FD - 1, 0);
  close_range(SUPER_FD, ~0u, 0);
  // Not the caller's pipes; and no pin may get 0, which means none here.
  dup2(ZERO_FD, 0);
  dup2(ZERO_FD, 1);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Memory written by a fault's handler must not grow a stack: everything runs on this one.
  struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  int heap = prctl(PR_SET_MM, PR_SET_MM_MAP, &heap_map, sizeof heap_map, 0);
  if (heap) _exit(97);
  state.nr_stacks = 1;
  __asm__ volatile("mov %0, %%rsp\n\txor %%ebp, %%ebp\n\tcall *%1"
                   :
                   : "r"(stacks[0] + STACK_BYTES - 64), "b"(settle), "D"((uint64_t)channel)
                   : "memory");
  __builtin_unreachable();
}
