/*
 * A recorded process: how it starts, what it finds in memory, how it forks, runs another program, and ends.
 *
 * QEMU runs what a program execs natively. To go on recording, the plugin itself execs QEMU again with the new program
 * as its argument, from inside the syscall's callback: same process, same descriptors, same signal mask.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exec-target.h"
#include "pages.h"
#include "recorder.h"
#include "stream.h"

/* Where QEMU begins to look for room, and what it leaves behind a position-independent program for its heap. */
#define GUEST_START 0x4000000000ull
#define HEAP_RESERVE (32ull << 20)
/* Kept free for the heap to grow into. */
#define HEAP_ROOM (64ull << 30)
#define STACK_BYTES (8ull << 20)
#define USER_END (1ull << 47)

#define REGION_READ 1
#define REGION_WRITE 2
#define REGION_VALID 8

static uint64_t fence, fence_bytes;
static uint32_t first_thread;
static char control_path[256];

/* ---- guest memory ---- */

bool guest_read(uint64_t addr, void *to, uint64_t size) {
  struct iovec here = {to, size}, there = {(void *)addr, size};
  return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)size;
}

bool guest_text(uint64_t addr, char *to, uint64_t room) {
  for (uint64_t i = 0; i < room; i++) {
    if (!guest_read(addr + i, to + i, 1)) return false;
    if (to[i] == 0) return true;
  }
  return false;
}

/* ---- start ---- */

static const char *program_path(void) {
  char **path = dlsym(RTLD_DEFAULT, "exec_path");
  return path && *path ? *path : "";
}

static struct process_row *row_of(int32_t pid) {
  uint32_t nr = atomic_load(&control->nr_processes);
  for (uint32_t i = nr; i-- > 0;)
    if (atomic_load(&control->processes[i].pid) == pid && !atomic_load(&control->processes[i].is_over))
      return &control->processes[i];
  return NULL;
}

/* Under the stream lock. */
static bool announce_process(uint32_t parent_plus_1, enum start_kind kind, uint32_t *process, uint32_t *thread) {
  if (control->nr_processes == MAX_PROCESSES) return false;
  *process = atomic_fetch_add(&control->nr_processes, 1);
  *thread = control->nr_threads++;
  control->processes[*process].thread = *thread;
  stream_begin(EV_PROCESS);
  stream_put(*process);
  stream_put(parent_plus_1);
  stream_put(kind);
  stream_end();
  stream_begin(EV_THREAD);
  stream_put(*thread);
  stream_put(*process);
  stream_end();
  return true;
}

/* Bytes of address space a position-independent program takes; 0 for others. */
static uint64_t image_span(const char *path) {
  Elf64_Ehdr e;
  Elf64_Phdr p[64];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  uint64_t low = UINT64_MAX, high = 0;
  bool has_interpreter = false;
  if (read(fd, &e, sizeof e) == sizeof e && e.e_type == ET_DYN && e.e_phnum <= 64 &&
      pread(fd, p, e.e_phnum * sizeof *p, e.e_phoff) == (ssize_t)(e.e_phnum * sizeof *p))
    for (int i = 0; i < e.e_phnum; i++) {
      has_interpreter |= p[i].p_type == PT_INTERP;
      if (p[i].p_type != PT_LOAD) continue;
      if ((p[i].p_vaddr & ~4095ull) < low) low = p[i].p_vaddr & ~4095ull;
      if (p[i].p_vaddr + p[i].p_memsz > high) high = p[i].p_vaddr + p[i].p_memsz;
    }
  close(fd);
  return has_interpreter && high > low ? (high - low + 4095) & ~4095ull : 0;
}

/*
 * QEMU maps the stack and the libraries right behind the reserve, so that the heap of a position-independent program
 * could not grow beyond 32 MiB and malloc would turn to mmap, which it does not do outside QEMU. A fence there while
 * QEMU loads the program sends them elsewhere.
 */
static void raise_fence(void) {
  uint64_t span = image_span(program_path());
  if (span == 0) return;
  uint64_t start = GUEST_START + span + HEAP_RESERVE;
  void *at = mmap((void *)start, HEAP_ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
                  -1, 0);
  if (at != (void *)start) return;
  fence = start, fence_bytes = HEAP_ROOM;
}

static void lower_fence(void) {
  if (!fence) return;
  munmap((void *)fence, fence_bytes);
  uint64_t *next = dlsym(RTLD_DEFAULT, "mmap_next_start");
  if (next) *next = fence + fence_bytes;
  fence = 0;
}

static void before_fork(void);
static void after_fork_in_parent(void);
static void after_fork_in_child(void);

bool process_starts(const char *path) {
  if (!stream_attach(path)) return false;
  snprintf(control_path, sizeof control_path, "%s", path);
  struct process_row *row = row_of(getpid());
  bool was_mine = stream_is_mine();
  if (!was_mine) stream_lock();
  if (row) {
    self.process = (uint32_t)(row - control->processes);
    first_thread = row->thread;
    stream_begin(EV_EXEC);
    stream_put(self.process);
    stream_put_text(program_path());
    stream_end();
  } else {
    if (!announce_process(0, START_EXEC, &self.process, &first_thread)) return false;
    atomic_store(&control->processes[self.process].pid, getpid());
    stream_begin(EV_EXEC);
    stream_put(self.process);
    stream_put_text(program_path());
    stream_end();
  }
  stream_unlock();
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  raise_fence();
  return true;
}

uint32_t process_first_thread(void) {
  return first_thread;
}

/* ---- the image ---- */

struct region {
  uint64_t start, end, prot;
};
static struct region regions[512], told[512];
static int nr_regions, nr_told;

static int keep_region(void *unused, uint64_t start, uint64_t end, unsigned long flags) {
  (void)unused;
  if ((flags & REGION_VALID) && end <= USER_END && nr_regions < 512)
    regions[nr_regions++] = (struct region){start, end, flags & 7};
  return 0;
}

/* Pages that the loader wrote: arguments, environment, the end of the data segment. They are there as private pages. */
static void image_written(uint64_t start, uint64_t end) {
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  for (uint64_t page = start >> PAGE_SHIFT; page < end >> PAGE_SHIFT; page++) {
    uint64_t entry;
    if (pread(fd, &entry, 8, (off_t)page * 8) != 8) break;
    bool is_present = entry >> 63 & 1, is_of_file = entry >> 61 & 1;
    if (is_present && !is_of_file && pages_see(page, true)) stream_touch(first_thread, true, page);
  }
  close(fd);
}

static void tell_image(const struct region *r, uint64_t start, uint64_t end, uint64_t offset, const char *path) {
  static uint64_t last_end;
  bool is_stack = *path == 0 && (r->prot & REGION_WRITE) && end - start >= STACK_BYTES;
  /* QEMU's own descriptor tables look like the program's memory, but belong to no file and are no stack. */
  if (*path == 0 && !is_stack && start != last_end) return;
  last_end = end;
  told[nr_told++] = (struct region){start, end, r->prot};
  stream_begin(EV_IMAGE);
  stream_put(self.process);
  stream_put(*path ? IMAGE_FILE : is_stack ? IMAGE_STACK : IMAGE_ANONYMOUS);
  stream_put(start >> PAGE_SHIFT);
  stream_put((end - start) >> PAGE_SHIFT);
  stream_put(r->prot);
  stream_put(offset >> PAGE_SHIFT);
  stream_put_text(path);
  stream_end();
}

void process_image(void) {
  int (*walk)(void *, int (*)(void *, uint64_t, uint64_t, unsigned long)) = dlsym(RTLD_DEFAULT, "walk_memory_regions");
  self.has_image = true;
  lower_fence();
  if (!walk) return stream_note("this QEMU does not show its memory regions: the program's own segments are missing");
  walk(NULL, keep_region);

  FILE *maps = fopen("/proc/self/maps", "re");
  if (!maps) return;
  char line[PATH_BYTES + 200], path[PATH_BYTES + 1];
  stream_lock();
  while (fgets(line, sizeof line, maps)) {
    uint64_t start, end, offset;
    unsigned long inode;
    path[0] = 0;
    if (sscanf(line, "%lx-%lx %*s %lx %*s %lu %4096[^\n]", &start, &end, &offset, &inode, path) < 4) continue;
    if (inode == 0) path[0] = 0;
    for (int i = 0; i < nr_regions; i++) {
      const struct region *r = &regions[i];
      uint64_t from = start > r->start ? start : r->start, to = end < r->end ? end : r->end;
      /* No access at all: what QEMU reserves for the heap, guard pages. */
      if (from < to && r->prot && nr_told < 512) tell_image(r, from, to, offset + (from - start), path);
    }
  }
  for (int i = 0; i < nr_told; i++)
    if (told[i].prot & REGION_WRITE) image_written(told[i].start, told[i].end);
  stream_unlock();
  fclose(maps);
}

/* ---- fork ---- */

static __thread bool is_forking, is_vforking;
static uint32_t child_process, child_thread;

void process_forks(bool is_vfork) {
  is_forking = true;
  is_vforking = is_vfork;
}

/* QEMU has stopped the other threads; both locks stay held over the fork, so that the child finds nothing half done. */
static void before_fork(void) {
  if (!is_forking) return;
  process_lock();
  for (uint32_t i = 0; i < self.nr_vcpus; i++)
    if (vcpus[i]) sync_clock(vcpus[i]);
  tell_all();
  filters_drop_all();
  stream_lock();
  stream_flush_run();
  if (!announce_process(self.process + 1, is_vforking ? START_VFORK : START_FORK, &child_process, &child_thread)) {
    stream_unlock();
    stream_note("more than %d processes: the recording ends here", MAX_PROCESSES);
    atomic_store(&control->stop, 1);
    stream_lock();
  }
}

static void after_fork_in_parent(void) {
  if (!is_forking) return;
  is_forking = false;
  if (!is_vforking) pages_forget_all_writes();
  stream_unlock();
  process_unlock();
}

static void after_fork_in_child(void) {
  if (!is_forking) return;
  is_forking = false;
  pthread_mutex_init(&process_mutex, NULL);
  pthread_mutex_init(&map_mutex, NULL);
  self.process = child_process;
  self.is_quiet = is_vforking;
  self.insns = self.nr_intervals = 0;
  self.next_interval = 0;
  atomic_store(&control->processes[child_process].pid, getpid());
  pages_forget_all();
  for (uint32_t i = 0; i < self.nr_vcpus; i++)
    if (vcpus[i] != current) vcpus[i] = NULL;
  uint64_t insns = current->insns;
  uint64_t arg[6];
  memcpy(arg, current->arg, sizeof arg);
  vcpu_reset(current, child_thread);
  current->insns = current->synced = insns;
  memcpy(current->arg, arg, sizeof arg);
}

/* ---- exec ---- */

static uint64_t nr_words(uint64_t vector) {
  uint64_t n = 0, word;
  while (guest_read(vector + n * 8, &word, 8) && word && n < 1 << 20) n++;
  return n;
}

static void before_exec(struct vcpu *v) {
  if (self.is_quiet) return;
  process_lock();
  for (uint32_t i = 0; i < self.nr_vcpus; i++) {
    struct vcpu *other = vcpus[i];
    if (!other || other->is_gone) continue;
    vcpu_finish(other);
    if (other == v) continue;
    stream_lock();
    stream_begin(EV_THREAD_EXIT);
    stream_put(other->thread);
    stream_end();
    stream_unlock();
  }
  tell_all();
  end_interval();
  process_unlock();
}

void process_execs(struct vcpu *v, uint64_t path_at, uint64_t argv, uint64_t envp) {
  static struct exec_target target; /* too large for a guest thread's host stack */
  char path[PATH_BYTES];
  if (!guest_text(path_at, path, sizeof path)) return;
  if (strcmp(path, "/proc/self/exe") == 0) snprintf(path, sizeof path, "%s", program_path());
  enum target_verdict verdict = exec_target(path, &target);
  if (verdict == TARGET_FAILS) return;
  if (verdict == TARGET_FOREIGN) {
    stream_note("%s is no x86-64 program: it ran, but was not recorded", path);
    return process_exits(0);
  }

  uint64_t nr = nr_words(argv);
  const char **to = calloc(nr + 16 + MAX_PREFIX, sizeof *to);
  if (!to) return;
  char plugin[PATH_BYTES * 2];
  snprintf(plugin, sizeof plugin, "%s,control=%s", control->plugin, control_path);
  int n = 0;
  to[n++] = control->qemu;
  to[n++] = "-s";
  to[n++] = "8388608";
  to[n++] = "-plugin";
  to[n++] = plugin;
  if (target.nr_prefix == 0 && nr > 0) {
    to[n++] = "-0";
    guest_read(argv, &to[n++], 8);
  }
  to[n++] = target.program;
  for (int i = 0; i < target.nr_prefix; i++) to[n++] = target.prefix[i];
  for (uint64_t i = 1; i < nr; i++) guest_read(argv + i * 8, &to[n++], 8);

  before_exec(v);
  struct process_row *row = &control->processes[self.process];
  row->thread = v->thread;
  /* Held until the new program's plugin has said that it is there: exec kills the other threads wherever they are. */
  stream_lock();
  stream_flush_run();
  execve(control->qemu, (char *const *)to, (char *const *)envp);
  stream_unlock();
  free(to);
}

/* ---- the end ---- */

static void tell_exit(uint32_t process, uint32_t status) {
  if (atomic_exchange(&control->processes[process].is_over, 1)) return;
  stream_lock();
  stream_begin(EV_EXIT);
  stream_put(process);
  stream_put(status);
  stream_end();
  stream_unlock();
}

void process_exits(uint32_t status) {
  if (!self.is_quiet) {
    process_lock();
    for (uint32_t i = 0; i < self.nr_vcpus; i++)
      if (vcpus[i] && !vcpus[i]->is_gone) vcpu_finish(vcpus[i]);
    tell_all();
    end_interval();
    self.is_quiet = true;
    process_unlock();
  }
  tell_exit(self.process, status);
}

/* A child that was killed could not say so itself. */
void process_waited(int32_t pid, int32_t status) {
  struct process_row *row = row_of(pid);
  if (!row || !(WIFSIGNALED(status) || WIFEXITED(status))) return;
  tell_exit((uint32_t)(row - control->processes), WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status));
}
