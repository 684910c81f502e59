/* A zram device of our own with a swap header written by hand, and groups of the v1 memory controller. */
#define _GNU_SOURCE
#include "facilities.h"
#include "protocol.h"
#include "undo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

/* ---- Swap ------------------------------------------------------------------------------------------------------ */

static uint64_t device_bytes; /* of the device in the journal */
static int may_have_slots;    /* slots may have been given out since it was put in use */

void swap_note_use(void) { may_have_slots = 1; }

static struct undo_entry *zram_entry(void) {
  for (int number = 0; number < 64; number++) {
    struct undo_entry *entry = undo_find(UNDO_ZRAM, number, NULL);
    if (entry) return entry;
  }
  return NULL;
}

static void device_path(char *path, size_t size, int number) {
  snprintf(path, size, "/dev/zram%d", number);
}

static int add_device(uint64_t bytes) {
  char text[64], path[128];
  int n = read_text("/sys/class/zram-control/hot_add", text, sizeof text);
  if (n <= 0) return FAILED_FACILITY;
  int number = atoi(text);
  if (!undo_note(UNDO_ZRAM, number, "", "")) return -ENOSPC;
  snprintf(path, sizeof path, "/sys/block/zram%d/disksize", number);
  snprintf(text, sizeof text, "%lu", bytes);
  int error = write_text(path, text);
  if (error) return error;
  device_path(path, sizeof path, number);
  for (int i = 0; i < 500 && access(path, W_OK); i++) usleep(1000);
  device_bytes = bytes;
  return 0;
}

/* What mkswap writes: version 1, the last page, the magic at the end of the first page. */
static int write_swap_header(const char *path) {
  static char header[PAGE];
  uint32_t version = 1, last_page = (uint32_t)(device_bytes / PAGE - 1);
  memset(header, 0, sizeof header);
  memcpy(header + 1024, &version, 4);
  memcpy(header + 1028, &last_page, 4);
  memcpy(header + PAGE - 10, "SWAPSPACE2", 10);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t n = write(fd, header, sizeof header);
  int error = n != sizeof header ? -EIO : fsync(fd) ? -errno : 0;
  close(fd);
  return error;
}

int swap_on(void) {
  struct undo_entry *device = zram_entry();
  char path[64];
  if (!device) return -ENODEV;
  device_path(path, sizeof path, device->number);
  if (undo_find(UNDO_SWAP, 0, path)) return -EBUSY;
  int error = write_swap_header(path);
  if (error) return error;
  struct undo_entry *entry = undo_note(UNDO_SWAP, 0, path, "");
  if (!entry) return -ENOSPC;
  if (swapon(path, 0) == 0) {
    may_have_slots = 0;
    return 0;
  }
  error = -errno;
  undo_forget(entry);
  return error;
}

int swap_off(void) {
  struct undo_entry *device = zram_entry();
  char path[64];
  if (!device) return -ENODEV;
  device_path(path, sizeof path, device->number);
  if (swapoff(path)) return -errno;
  struct undo_entry *entry = undo_find(UNDO_SWAP, 0, path);
  if (entry) undo_forget(entry);
  return 0;
}

static void remove_device(void) {
  struct undo_entry *device = zram_entry();
  char path[128], text[16];
  if (!device) return;
  swap_off();
  snprintf(path, sizeof path, "/sys/block/zram%d/reset", device->number);
  for (int i = 0; i < 500 && write_text(path, "1") == -EBUSY; i++) usleep(2000);
  snprintf(text, sizeof text, "%d", device->number);
  write_text("/sys/class/zram-control/hot_remove", text);
  undo_forget(device);
}

int swap_ready(uint64_t bytes) {
  struct undo_entry *device = zram_entry();
  if (device && (device_bytes != bytes || bytes == 0)) remove_device(), device = NULL;
  if (bytes == 0) return 0;
  char path[64];
  if (!device) {
    int error = add_device(bytes);
    if (error) return error;
    device = zram_entry();
  }
  device_path(path, sizeof path, device->number);
  if (undo_find(UNDO_SWAP, 0, path)) {
    if (!may_have_slots) return 0;
    int error = swap_off();
    if (error) return error;
  }
  return swap_on();
}

/* ---- Groups ---------------------------------------------------------------------------------------------------- */

static char controller[128]; /* where the memory controller is mounted */

static int find_controller(void) {
  static char mounts[32768];
  if (controller[0]) return 0;
  int n = read_text("/proc/self/mounts", mounts, sizeof mounts);
  for (char *line = mounts; n > 0 && *line;) {
    char *end = line + strcspn(line, "\n");
    char last = *end, place[128], type[32], options[256];
    *end = 0;
    if (sscanf(line, "%*s %127s %31s %255s", place, type, options) == 3 &&
        !strcmp(type, "cgroup") && strstr(options, "memory"))
      snprintf(controller, sizeof controller, "%s", place);
    if (!last) break;
    line = end + 1;
  }
  if (controller[0]) return 0;
  char place[] = "/run/hugelab-memory-XXXXXX";
  if (!mkdtemp(place)) return FAILED_FACILITY;
  struct undo_entry *entry = undo_note(UNDO_MOUNT, 0, place, "");
  if (!entry || mount("hugelab", place, "cgroup", 0, "memory")) {
    rmdir(place);
    if (entry) undo_forget(entry);
    return FAILED_FACILITY;
  }
  snprintf(controller, sizeof controller, "%s", place);
  return 0;
}

static void group_path(char *path, size_t size, const char *name) {
  snprintf(path, size, "%s/hugelab-%d-%s", controller, getpid(), name);
}

int memcg_limit(const char *name, int64_t limit) {
  char path[300], file[400], text[32];
  int error = find_controller();
  if (error) return error;
  group_path(path, sizeof path, name);
  if (!undo_find(UNDO_CGROUP, 0, path)) {
    struct undo_entry *entry = undo_note(UNDO_CGROUP, 0, path, "");
    if (!entry) return -ENOSPC;
    if (mkdir(path, 0700)) {
      error = -errno;
      undo_forget(entry);
      return error;
    }
  }
  snprintf(file, sizeof file, "%s/memory.limit_in_bytes", path);
  snprintf(text, sizeof text, "%ld", limit);
  return write_text(file, text);
}

int memcg_join(const char *name, pid_t pid) {
  char path[300], file[400], text[16];
  group_path(path, sizeof path, name);
  snprintf(file, sizeof file, "%s/cgroup.procs", path);
  snprintf(text, sizeof text, "%d", pid);
  return write_text(file, text);
}
