/*
 * What must be put back, in memory shared with the watchdog, so that it is put back also after SIGKILL.
 */
#ifndef SCENARIO_UNDO_H
#define SCENARIO_UNDO_H

#include <stdint.h>
#include <sys/types.h>

#define MAX_UNDO 128

enum undo_kind { UNDO_FREE, UNDO_KNOB, UNDO_ZRAM, UNDO_SWAP, UNDO_CGROUP, UNDO_MOUNT, UNDO_PROCESS, UNDO_NICE, UNDO_TRACE };

struct undo_entry {
  volatile uint32_t kind; /* written last; UNDO_FREE: empty */
  int32_t number;         /* zram device, process, kernel thread */
  uint64_t start_time;    /* of the process, so that a reused number is not mistaken for it */
  char path[200];
  char value[256];
};

/* Creates the journal and the watchdog, which inherits `lock_fd` and keeps the lock until all is put back. */
void undo_start(int lock_fd);
/* Entries are noted before the change is made. Return the entry, or NULL when full. */
struct undo_entry *undo_note(enum undo_kind kind, int number, const char *path, const char *value);
struct undo_entry *undo_find(enum undo_kind kind, int number, const char *path);
void undo_forget(struct undo_entry *entry);
/* Puts back everything noted of the scenario: processes, then groups. */
void undo_scenario(void);
/* Puts back everything but what stays while the supervisor lives. */
void undo_lease(void);
/* Puts back everything. */
void undo_all(void);

uint64_t process_start_time(pid_t pid);
int write_text(const char *path, const char *text);
int read_text(const char *path, char *text, int size);
long read_number(const char *path);

#endif
