/*
 * Starts the program to be recorded, or runs it plainly, and reports on descriptor 3.
 *
 *     launcher record INTERVAL WINDOW EVERY QEMU PLUGIN DRIVER PROGRAM ARGV0 ARGS...
 *     launcher plain DRIVER PROGRAM ARGV0 ARGS...
 *     launcher exec PROGRAM ARGV0 ARGS...
 *
 * record: makes the shared control block, starts PROGRAM under QEMU and passes the ring on as bytes, ending with EV_END.
 * plain: runs PROGRAM with huge pages switched off (prctl) and writes one line of numbers: wall, user and system time in
 * microseconds, minor and major faults, peak RSS of the largest process in KiB, wait status.
 *
 * exec: becomes PROGRAM with huge pages switched off, for it and all that it starts.
 *
 * DRIVER, if not empty, is a shell command that runs beside the program, itself unrecorded, with the program's process id
 * in HUGELAB_PID; when it ends, the program is asked to end (SIGTERM).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "exec-target.c"
#include "stream.c"

#ifndef PR_SET_THP_DISABLE
#define PR_SET_THP_DISABLE 41
#endif

#define OUT 3
#define PROGRESS_EVERY_MS 200
/* Between asking the program to end and ending it. */
#define PATIENCE_MS 3000

static volatile sig_atomic_t was_asked;

static void on_signal(int number) {
  (void)number;
  was_asked = 1;
}

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int write_all(const void *bytes, size_t size) {
  const char *at = bytes;
  while (size > 0) {
    ssize_t n = write(OUT, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    at += n, size -= (size_t)n;
  }
  return 1;
}

/* ---- starting ---- */

static void report_failure(const char *what, int error) {
  uint8_t bytes[PATH_BYTES + 200];
  char text[PATH_BYTES + 100];
  int n = snprintf(text, sizeof text, "%s: %s", what, strerror(error));
  bytes[0] = EV_FAILED;
  uint32_t size = 1 + put_at(bytes + 1, (uint64_t)n);
  memcpy(bytes + size, text, (size_t)n);
  write_all(bytes, size + (size_t)n);
}

/* The program must get the signals as the caller has them, not as the launcher set them. */
static void child_defaults(void) {
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  signal(SIGPIPE, SIG_DFL);
}

static pid_t start(const char *program, char *const *argv, int is_plain) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  child_defaults();
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
  /* A recording should be the same the next time. */
  if (!is_plain) personality(ADDR_NO_RANDOMIZE);
  fcntl(OUT, F_SETFD, FD_CLOEXEC);
  execv(program, argv);
  if (!is_plain) report_failure(program, errno);
  _exit(127);
}

static pid_t start_driver(const char *command, pid_t program) {
  if (*command == 0) return 0;
  pid_t pid = fork();
  if (pid != 0) return pid;
  child_defaults();
  fcntl(OUT, F_SETFD, FD_CLOEXEC);
  char number[16];
  snprintf(number, sizeof number, "%d", (int)program);
  setenv("HUGELAB_PID", number, 1);
  dup2(2, 1);
  execl("/bin/sh", "sh", "-c", command, (char *)NULL);
  _exit(127);
}

/* ---- passing the ring on ---- */

/* False if nobody takes the bytes. */
static int drain(void) {
  for (;;) {
    uint64_t head = atomic_load(&control->head), tail = atomic_load(&control->tail);
    if (head == tail) return 1;
    uint32_t at = tail % RING_BYTES;
    uint64_t size = head - tail;
    if (size > RING_BYTES - at) size = RING_BYTES - at;
    if (size > 1 << 20) size = 1 << 20;
    if (!write_all(ring + at, size)) return 0;
    atomic_store(&control->tail, tail + size);
    atomic_fetch_add(&control->writer_bell, 1);
    syscall(SYS_futex, &control->writer_bell, FUTEX_WAKE, 64, NULL, NULL, 0);
  }
}

/* Only where everything before is drained: it goes past the ring. */
static void write_progress(void) {
  uint8_t bytes[64];
  bytes[0] = EV_PROGRESS;
  uint32_t n = 1;
  n += put_at(bytes + n, atomic_load(&control->accesses));
  n += put_at(bytes + n, atomic_load(&control->touches));
  n += put_at(bytes + n, atomic_load(&control->ticks));
  write_all(bytes, n);
}

static void signal_all(int number) {
  for (uint32_t i = 0; i < atomic_load(&control->nr_processes); i++) {
    int32_t pid = atomic_load(&control->processes[i].pid);
    if (pid > 0 && !atomic_load(&control->processes[i].is_over)) kill(pid, number);
  }
}

/* The last events: processes that did not say that they ended, and the end. */
static void finish(int status) {
  int outlived = 0;
  stream_lock();
  for (uint32_t i = 0; i < atomic_load(&control->nr_processes); i++) {
    struct process_row *row = &control->processes[i];
    if (atomic_load(&row->is_over)) continue;
    uint32_t how = WIFSIGNALED(status) ? 256 + (uint32_t)WTERMSIG(status) : (uint32_t)WEXITSTATUS(status);
    /* Of the others nobody knows: killed is the likely reason. */
    if (i > 0) how = 256 + SIGKILL;
    int32_t pid = atomic_load(&row->pid);
    if (i > 0 && pid > 0 && kill(pid, 0) == 0) outlived++;
    stream_begin(EV_EXIT);
    stream_put(i);
    stream_put(how);
    stream_end();
  }
  stream_unlock();
  if (outlived > 0) stream_note("%d processes outlived the command; they were recorded up to its end", outlived);
  stream_lock();
  stream_begin(EV_PROGRESS);
  stream_put(atomic_load(&control->accesses));
  stream_put(atomic_load(&control->touches));
  stream_put(atomic_load(&control->ticks));
  stream_end();
  stream_begin(EV_END);
  stream_put(atomic_load(&control->ticks));
  stream_put(WIFSIGNALED(status) ? 256 + (uint32_t)WTERMSIG(status) : (uint32_t)WEXITSTATUS(status));
  stream_put(was_asked);
  stream_end();
  stream_unlock();
  drain();
}

static void wait_for_bell(void) {
  uint32_t bell = atomic_load(&control->reader_bell);
  if (atomic_load(&control->head) - atomic_load(&control->tail) > RING_BYTES / 4) return;
  struct timespec wait = {0, 5000000};
  syscall(SYS_futex, &control->reader_bell, FUTEX_WAIT, bell, &wait, NULL, 0);
}

/* Until the program ended; its wait status. */
static int follow(pid_t program, pid_t driver) {
  uint64_t next_progress = 0, asked_at = 0;
  int status = 0;
  for (;;) {
    int is_heard = drain();
    uint64_t now = now_us();
    if (is_heard && now >= next_progress) {
      next_progress = now + PROGRESS_EVERY_MS * 1000;
      write_progress();
    }
    if (!is_heard && !was_asked) {
      atomic_store(&control->stop, 1);
      was_asked = 1;
    }
    int ended;
    pid_t pid = waitpid(-1, &ended, WNOHANG);
    if (pid == program) status = ended;
    if (pid == program || (pid < 0 && errno == ECHILD)) return status;
    if (pid == driver && driver > 0) {
      driver = 0;
      kill(program, SIGTERM);
    }
    if (was_asked && asked_at == 0) {
      asked_at = now;
      kill(program, SIGTERM);
      if (driver > 0) kill(driver, SIGTERM);
    }
    if (asked_at && now - asked_at > PATIENCE_MS * 1000) signal_all(SIGKILL);
    wait_for_bell();
  }
}

/* ---- the two commands ---- */

static int make_control(char *path, size_t room) {
  int fd = memfd_create("hugelab-recorder", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, SHARED_BYTES) < 0) return 0;
  void *at = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return 0;
  control = at;
  ring = (uint8_t *)at + RING_OFFSET;
  control->magic = CONTROL_MAGIC;
  control->launcher = getpid();
  snprintf(path, room, "/proc/%d/fd/%d", (int)getpid(), fd);
  return 1;
}

static int record(char **argv) {
  char path[64], plugin[PATH_BYTES + 100];
  static struct exec_target target;
  if (!make_control(path, sizeof path)) {
    report_failure("cannot make the shared ring", errno);
    return 3;
  }
  control->interval_ticks = strtoull(argv[0], NULL, 10);
  control->window_accesses = strtoull(argv[1], NULL, 10);
  control->sample_every = strtoull(argv[2], NULL, 10);
  snprintf(control->qemu, PATH_BYTES, "%s", argv[3]);
  snprintf(control->plugin, PATH_BYTES, "%s", argv[4]);
  snprintf(plugin, sizeof plugin, "%s,control=%s", argv[4], path);
  const char *driver_command = argv[5], *program = argv[6], *argv0 = argv[7];
  if (exec_target(program, &target) != TARGET_RUNS) {
    report_failure(program, ENOEXEC);
    return 2;
  }
  int nr = 0;
  while (argv[8 + nr]) nr++;
  char **to = calloc((size_t)nr + 16 + MAX_PREFIX, sizeof *to);
  int n = 0;
  to[n++] = control->qemu;
  to[n++] = "-s";
  to[n++] = "8388608";
  to[n++] = "-plugin";
  to[n++] = plugin;
  if (target.nr_prefix == 0) {
    to[n++] = "-0";
    to[n++] = (char *)argv0;
  }
  to[n++] = target.program;
  for (int i = 0; i < target.nr_prefix; i++) to[n++] = target.prefix[i];
  for (int i = 0; i < nr; i++) to[n++] = argv[8 + i];

  pid_t child = start(control->qemu, to, 0);
  pid_t driver = start_driver(driver_command, child);
  int status = follow(child, driver);
  if (driver > 0) kill(driver, SIGTERM);
  drain();
  /* Those that go on are not listened to any more, and must not write behind the end. */
  finish(status);
  atomic_store(&control->stop, 1);
  return 0;
}

static int plain(char **argv) {
  uint64_t from = now_us();
  pid_t child = start(argv[1], argv + 2, 1);
  pid_t driver = start_driver(argv[0], child);
  int status = 0, ended;
  struct rusage usage = {0};
  for (;;) {
    struct rusage one;
    pid_t pid = wait4(-1, &ended, 0, &one);
    if (pid < 0 && errno == EINTR) {
      if (was_asked) kill(child, SIGTERM);
      continue;
    }
    if (pid < 0) break;
    if (pid == driver && driver > 0) kill(child, SIGTERM);
    if (pid != child) continue;
    status = ended, usage = one;
    break;
  }
  uint64_t wall = now_us() - from;
  if (driver > 0) kill(driver, SIGTERM);
  char line[200];
  int n = snprintf(line, sizeof line, "%lu %lu %lu %ld %ld %ld %d\n", wall,
                   (uint64_t)usage.ru_utime.tv_sec * 1000000 + (uint64_t)usage.ru_utime.tv_usec,
                   (uint64_t)usage.ru_stime.tv_sec * 1000000 + (uint64_t)usage.ru_stime.tv_usec, usage.ru_minflt,
                   usage.ru_majflt, usage.ru_maxrss,
                   WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status));
  return write_all(line, (size_t)n) ? 0 : 3;
}

static int become(char **argv) {
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
  execv(argv[0], argv + 1);
  perror(argv[0]);
  return 127;
}

int main(int argc, char **argv) {
  if (argc >= 4 && strcmp(argv[1], "exec") == 0) return become(argv + 2);
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
  if (argc >= 10 && strcmp(argv[1], "record") == 0) return record(argv + 2);
  if (argc >= 5 && strcmp(argv[1], "plain") == 0) return plain(argv + 2);
  return 2;
}
