/* /proc/vmstat, hugepages-<size>kB/stats and khugepaged's own counts. Their files stay open: a read at 0 makes the kernel print anew. */
#define _GNU_SOURCE
#include "counters.h"
#include "hush.h"
#include "lease.h"
#include "wire.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_VMSTAT 320
#define MAX_STATS 256
#define VMSTAT_BYTES 32768
#define NAME_BYTES 48

struct counter_set {
  int nr;
  char names[MAX_VMSTAT][NAME_BYTES];
  int64_t before[MAX_VMSTAT];
  int64_t change[MAX_VMSTAT];
};

static struct counter_set *vmstat, *stats;
static int vmstat_fd, stat_fds[MAX_STATS], stat_kb[MAX_STATS];
static int64_t huge_faults_after = -1; /* thp_fault_alloc behind the last operation */
static int has_heard_others;
static int used_kb;    /* sum of the sizes whose stats are read */
static int measured_kb; /* the same when the operation began: a knob may add a size */
static char *text;

static void read_vmstat(int64_t *values) {
  ssize_t n = 0;
  for (ssize_t got; n < VMSTAT_BYTES - 1; n += got) {
    got = pread(vmstat_fd, text + n, (size_t)(VMSTAT_BYTES - 1 - n), n);
    if (got <= 0) break;
  }
  text[n] = 0;
  int i = 0;
  for (char *line = text; *line && i < MAX_VMSTAT; i++) {
    char *blank = strchr(line, ' ');
    if (!blank) break;
    if (vmstat->nr <= i) {
      snprintf(vmstat->names[i], NAME_BYTES, "%.*s", (int)(blank - line), line);
      vmstat->nr = i + 1;
    }
    char *end;
    values[i] = strtoll(blank + 1, &end, 10);
    line = *end ? end + 1 : end;
  }
}

static void read_stats(int64_t *values) {
  char number[32];
  for (int i = 0; i < stats->nr; i++) {
    if (!(stat_kb[i] & measured_kb)) continue;
    ssize_t n = pread(stat_fds[i], number, sizeof number - 1, 0);
    number[n > 0 ? n : 0] = 0;
    values[i] = strtoll(number, NULL, 10);
  }
}

static void open_stats(int kb) {
  char path[400];
  snprintf(path, sizeof path, "/sys/kernel/mm/transparent_hugepage/hugepages-%dkB/stats", kb);
  DIR *dir = opendir(path);
  for (struct dirent *file; dir && (file = readdir(dir)) != NULL;) {
    if (file->d_name[0] == '.' || stats->nr == MAX_STATS) continue;
    snprintf(path, sizeof path, "/sys/kernel/mm/transparent_hugepage/hugepages-%dkB/stats/%s", kb,
             file->d_name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    snprintf(stats->names[stats->nr], NAME_BYTES, "%dkB/%.30s", kb, file->d_name);
    stat_kb[stats->nr] = kb;
    stat_fds[stats->nr++] = fd;
  }
  if (dir) closedir(dir);
}

/* Under the names of the files; full_scans counts laps of other programs too, so daemon.c counts it. */
static void open_daemon_counts(void) {
  int fd = open("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_collapsed",
                O_RDONLY | O_CLOEXEC);
  if (fd < 0 || stats->nr > MAX_STATS - 2) return;
  snprintf(stats->names[stats->nr], NAME_BYTES, "pages_collapsed");
  stat_kb[stats->nr] = 2048;
  stat_fds[stats->nr++] = fd;
  snprintf(stats->names[stats->nr], NAME_BYTES, "full_scans");
  stat_fds[stats->nr++] = -1;
}

void counters_start(void) {
  vmstat = private_memory(sizeof *vmstat);
  stats = private_memory(sizeof *stats);
  text = private_memory(VMSTAT_BYTES);
  vmstat_fd = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
  read_vmstat(vmstat->before);
  for (int kb = 2048; kb >= 8; kb /= 2) open_stats(kb);
  open_daemon_counts();
}

static void put_names(const struct counter_set *set, char *to, int size) {
  int n = 0;
  to[0] = 0;
  for (int i = 0; i < set->nr && n < size; i++)
    n += snprintf(to + n, (size_t)(size - n), "%s\n", set->names[i]);
}

void counters_names(char *vmstat_names, char *stats_names, int size) {
  put_names(vmstat, vmstat_names, size);
  put_names(stats, stats_names, size);
}

void counters_forget_knobs(void) { used_kb = 2048; }

void counters_note_knob(const char *path, const char *value) {
  const char *size = strstr(path, "hugepages-");
  if (size && strcmp(value, "never")) used_kb |= atoi(size + strlen("hugepages-"));
}

void counters_reset(void) {
  memset(vmstat->change, 0, sizeof vmstat->change);
  memset(stats->change, 0, sizeof stats->change);
}

static int index_of(const char *name) {
  for (int i = 0; i < vmstat->nr; i++)
    if (!strcmp(vmstat->names[i], name)) return i;
  return 0;
}

void counters_before(void) {
  hush_on();
  knobs_lend();
  measured_kb = used_kb;
  read_stats(stats->before);
  read_vmstat(vmstat->before);
  int64_t huge_faults = vmstat->before[index_of("thp_fault_alloc")];
  if (huge_faults_after >= 0 && huge_faults != huge_faults_after) has_heard_others = 1;
}

int counters_heard_others(void) {
  int has_heard = has_heard_others;
  has_heard_others = 0;
  return has_heard;
}

static void add_changes(struct counter_set *set, void (*read_values)(int64_t *), int nr_tries) {
  static int64_t *now;
  if (!now) now = private_memory(MAX_VMSTAT * sizeof *now);
  read_values(now);
  for (int i = 0; i < set->nr; i++) {
    if (set == stats && !(stat_kb[i] & measured_kb)) continue;
    int64_t change = now[i] - set->before[i];
    // A folio that is partially mapped is queued again and tried about as often as the canary; any other once. Rounded.
    if (nr_tries > 1 && strstr(set->names[i], "split") && strstr(set->names[i], "_failed"))
      change = (change + nr_tries / 2) / nr_tries;
    set->change[i] += change;
  }
}

void counters_after(void) { counters_after_tries(1); }

void counters_after_tries(int nr) {
  int i = index_of("thp_fault_alloc");
  huge_faults_after = vmstat->before[i] - vmstat->change[i];
  add_changes(vmstat, read_vmstat, nr);
  huge_faults_after += vmstat->change[i];
  add_changes(stats, read_stats, nr);
  knobs_withhold();
  hush_off();
}

void counters_after_long(void) {
  static int64_t *kept;
  if (!kept) kept = private_memory(MAX_VMSTAT * sizeof *kept);
  memcpy(kept, vmstat->change, MAX_VMSTAT * sizeof *kept);
  add_changes(vmstat, read_vmstat, 1);
  for (int i = 0; i < vmstat->nr; i++)
    if (strstr(vmstat->names[i], "thp_") || strstr(vmstat->names[i], "hugepages"))
      vmstat->change[i] = kept[i];
  huge_faults_after = -1;
  knobs_withhold();
  hush_off();
}

static void put_changes(const struct counter_set *set) {
  put_u32((uint32_t)set->nr);
  put_bytes(set->change, (size_t)set->nr * sizeof set->change[0]);
}

void counters_put(void) {
  put_changes(vmstat);
  put_changes(stats);
}

void counters_add(const char *name, int64_t change) {
  for (int i = 0; i < stats->nr; i++)
    if (!strcmp(stats->names[i], name)) stats->change[i] += change;
}

int64_t counter_change(const char *name) { return vmstat->change[index_of(name)]; }
