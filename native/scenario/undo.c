/*
 * The journal of changes and the watchdog that undoes them when the supervisor is gone.
 *
 * The watchdog has a session of its own and holds the reading end of a pipe whose writing end only the supervisor has. Its
 * end of file means that the supervisor ended, in whatever way. It touches what the journal names and nothing else.
 */
#define _GNU_SOURCE
#include "undo.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct undo_entry *journal;

/* Writes `text` with one write(2): 0 or -errno. */
int write_text(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t n = write(fd, text, strlen(text));
  int error = n < 0 ? -errno : 0;
  close(fd);
  return error;
}

/* Reads a small file, NUL-terminated: its length or -errno. */
int read_text(const char *path, char *text, int size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t n = read(fd, text, (size_t)size - 1);
  int error = n < 0 ? -errno : 0;
  close(fd);
  if (error) return error;
  text[n] = 0;
  return (int)n;
}

/* The number in a small file, 0 if it cannot be read. */
long read_number(const char *path) {
  char text[32];
  return read_text(path, text, sizeof text) > 0 ? strtol(text, NULL, 10) : 0;
}

/* Start time of a process in clock ticks since boot, 0 if there is none. */
uint64_t process_start_time(pid_t pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  if (read_text(path, text, sizeof text) <= 0) return 0;
  char *at = strrchr(text, ')');
  for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
  return at ? strtoull(at + 1, NULL, 10) : 0;
}

struct undo_entry *undo_note(enum undo_kind kind, int number, const char *path, const char *value) {
  for (int i = 0; i < MAX_UNDO; i++) {
    struct undo_entry *entry = &journal[i];
    if (entry->kind != UNDO_FREE) continue;
    entry->number = number;
    entry->start_time = kind == UNDO_PROCESS ? process_start_time(number) : 0;
    snprintf(entry->path, sizeof entry->path, "%s", path ? path : "");
    snprintf(entry->value, sizeof entry->value, "%s", value ? value : "");
    __sync_synchronize();
    entry->kind = kind;
    return entry;
  }
  return NULL;
}

struct undo_entry *undo_find(enum undo_kind kind, int number, const char *path) {
  for (int i = 0; i < MAX_UNDO; i++)
    if (journal[i].kind == kind && journal[i].number == number &&
        (!path || !strcmp(journal[i].path, path)))
      return &journal[i];
  return NULL;
}

void undo_forget(struct undo_entry *entry) { entry->kind = UNDO_FREE; }

static int is_gone(struct undo_entry *entry) {
  uint64_t start = process_start_time(entry->number);
  return start == 0 || start != entry->start_time;
}

/* Frees of a dying process take a moment: a group with members cannot be removed, a device in use cannot be reset. */
static int retry_ms(int (*try_once)(const char *), const char *path, int limit_ms) {
  for (int ms = 0; ms < limit_ms; ms += 2) {
    int result = try_once(path);
    if (result == 0 || errno == ENOENT || errno == EINVAL) return result;
    usleep(2000);
  }
  return -1;
}

static void undo_one(struct undo_entry *entry) {
  char path[128], text[16];
  switch (entry->kind) {
    case UNDO_KNOB:
      write_text(entry->path, entry->value);
      break;
    case UNDO_SWAP:
      retry_ms(swapoff, entry->path, 5000);
      break;
    case UNDO_ZRAM:
      snprintf(path, sizeof path, "/sys/block/zram%d/reset", entry->number);
      for (int i = 0; i < 500 && write_text(path, "1") == -EBUSY; i++) usleep(2000);
      snprintf(text, sizeof text, "%d", entry->number);
      for (int i = 0; i < 500 && write_text("/sys/class/zram-control/hot_remove", text) == -EBUSY; i++)
        usleep(2000);
      break;
    case UNDO_CGROUP:
      retry_ms(rmdir, entry->path, 5000);
      break;
    case UNDO_MOUNT:
      umount(entry->path);
      rmdir(entry->path);
      break;
    case UNDO_PROCESS:
      for (int i = 0; i < 2500 && !is_gone(entry); i++) {
        if (i == 0) kill(entry->number, SIGKILL);
        usleep(i < 50 ? 100 : 2000);
      }
      break;
    case UNDO_NICE:
      setpriority(PRIO_PROCESS, (id_t)entry->number, atoi(entry->value));
      break;
    case UNDO_TRACE:
      snprintf(path, sizeof path, "%.100s/events/huge_memory/enable", entry->path);
      write_text(path, "0");
      retry_ms(rmdir, entry->path, 2000);
      break;
    default:
      break;
  }
  undo_forget(entry);
}

/* Latest first, so that of two changes of one knob the older value stays. */
static void undo_kind(enum undo_kind kind) {
  for (int i = MAX_UNDO - 1; i >= 0; i--)
    if (journal[i].kind == kind) undo_one(&journal[i]);
}

void undo_scenario(void) {
  // All are told before any is waited for: they die side by side.
  for (int i = 0; i < MAX_UNDO; i++)
    if (journal[i].kind == UNDO_PROCESS && !is_gone(&journal[i])) kill(journal[i].number, SIGKILL);
  undo_kind(UNDO_PROCESS);
  undo_kind(UNDO_CGROUP);
}

void undo_lease(void) {
  undo_scenario();
  undo_kind(UNDO_SWAP);
  undo_kind(UNDO_ZRAM);
  undo_kind(UNDO_MOUNT);
  undo_kind(UNDO_NICE);
  undo_kind(UNDO_KNOB);
}

void undo_all(void) {
  undo_lease();
  undo_kind(UNDO_TRACE);
}

static void watch(int pipe_fd, int lock_fd) {
  setsid();
  for (int number = 1; number < 32; number++) signal(number, SIG_IGN);
  for (int fd = 0; fd < 1024; fd++)
    if (fd != pipe_fd && fd != lock_fd) close(fd);
  char byte;
  while (read(pipe_fd, &byte, 1) != 0) {}
  undo_all();
  _exit(0);
}

void undo_start(int lock_fd) {
  journal = mmap(NULL, sizeof *journal * MAX_UNDO, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int ends[2];
  if (journal == MAP_FAILED || pipe2(ends, O_CLOEXEC)) _exit(3);
  pid_t pid = fork();
  if (pid < 0) _exit(3);
  if (pid == 0) watch(ends[0], lock_fd);
  close(ends[0]);
  madvise(journal, sizeof *journal * MAX_UNDO, MADV_DONTFORK);
}
