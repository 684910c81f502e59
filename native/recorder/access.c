/*
 * Every data access of the program comes through on_access.
 *
 * The fast path: a filter per thread holds the pages used lately, reading and writing apart; an access to one of them adds
 * one to a number and is done. Whatever must be noticed (a page not in the filter, an access over a page's end, time to
 * begin or end a window or an interval) leaves the filter without a match or the countdown at zero.
 */
#include <string.h>

#include "pages.h"
#include "qemu-plugin-abi.h"
#include "recorder.h"
#include "stream.h"

/* Accesses after which the clock and the interval are looked at, at the latest. */
#define CHECK_EVERY 65536
/* Intervals before their length doubles. */
#define INTERVALS_PER_LENGTH 64
#define FIRST_INTERVAL 20000000

struct recorder self;
struct vcpu *vcpus[MAX_VCPUS], first_vcpu;
pthread_mutex_t process_mutex = PTHREAD_MUTEX_INITIALIZER, map_mutex = PTHREAD_MUTEX_INITIALIZER;
__thread struct vcpu *current;

__attribute__((noinline, cold)) static void slow_access(struct vcpu *v, uint32_t info, uint64_t vaddr, void *pc);

static inline void access_in(struct vcpu *v, uint32_t info, uint64_t vaddr, void *pc) {
  /* Bit 17 says store; plugin.c checks at start that it does. */
  uint64_t key = vaddr >> PAGE_SHIFT << 1 | (info >> 17 & 1);
  uint64_t *slot = &v->slots[key & (SLOTS - 1)], held = *slot;
  if (__builtin_expect(held >> COUNT_BITS == key && (vaddr & 4095) <= 4096 - 8 && --v->left > 0, 1)) {
    *slot = held + 1;
    return;
  }
  slow_access(v, info, vaddr, pc);
}

void on_access(unsigned index, uint32_t info, uint64_t vaddr, void *pc) {
  access_in(vcpus[index], info, vaddr, pc);
}

void on_access_alone(unsigned index, uint32_t info, uint64_t vaddr, void *pc) {
  (void)index;
  access_in(&first_vcpu, info, vaddr, pc);
}

/* ---- time ---- */

static void count_process_insns(uint64_t more) {
  self.insns += more;
  atomic_fetch_add_explicit(&control->ticks, more, memory_order_relaxed);
}

void sync_clock(struct vcpu *v) {
  uint64_t counted = self.inline_insns;
  count_process_insns(counted - self.inline_synced);
  self.inline_synced = counted;
  count_process_insns(v->insns - v->synced);
  v->synced = v->insns;
}

/* ---- what is held back ---- */

static void tell_batch(struct vcpu *v) {
  if (v->nr_batch == 0) return;
  stream_begin(EV_ACCESSES);
  stream_put(v->thread);
  stream_put(v->nr_batch);
  uint64_t last = 0;
  for (uint32_t i = 0; i < v->nr_batch; i++) {
    const struct window_entry *e = &v->batch[i];
    stream_put_signed((int64_t)(e->page - last));
    stream_put((uint64_t)e->count << 1 | e->is_write);
    last = e->page;
  }
  stream_end();
  v->nr_batch = 0;
}

static void tell_read(struct vcpu *v) {
  if (!v->has_read_pending) return;
  v->has_read_pending = false;
  stream_touch(v->thread, false, v->read_page);
}

void tell_all(void) {
  stream_lock();
  for (uint32_t i = 0; i < self.nr_vcpus; i++) {
    if (!vcpus[i]) continue;
    tell_read(vcpus[i]);
    tell_batch(vcpus[i]);
  }
  stream_unlock();
}

/* ---- the filters ---- */

static void slot_empty(uint64_t *slot) {
  if (*slot == EMPTY_SLOT) return;
  uint64_t key = *slot >> COUNT_BITS;
  pages_count(key >> 1, key & 1, *slot & ((1u << COUNT_BITS) - 1));
  *slot = EMPTY_SLOT;
}

static void filter_drop_all(struct vcpu *v) {
  for (uint32_t i = 0; i < SLOTS; i++) slot_empty(&v->slots[i]);
}

void filters_drop_all(void) {
  for (uint32_t i = 0; i < self.nr_vcpus; i++)
    if (vcpus[i]) filter_drop_all(vcpus[i]);
}

static void filter_drop(struct vcpu *v, uint64_t page, uint64_t nr_pages) {
  if (nr_pages >= SLOTS / 2) {
    for (uint32_t i = 0; i < SLOTS; i++)
      if (v->slots[i] >> (COUNT_BITS + 1) >= page && (v->slots[i] >> (COUNT_BITS + 1)) - page < nr_pages)
        slot_empty(&v->slots[i]);
    return;
  }
  for (uint64_t key = page * 2; key < (page + nr_pages) * 2; key++) {
    uint64_t *slot = &v->slots[key & (SLOTS - 1)];
    if (*slot >> COUNT_BITS == key) slot_empty(slot);
  }
}

void filters_drop(uint64_t page, uint64_t nr_pages) {
  for (uint32_t i = 0; i < self.nr_vcpus; i++)
    if (vcpus[i]) filter_drop(vcpus[i], page, nr_pages);
}

/* ---- first touches ---- */

static void see(struct vcpu *v, uint64_t page, uint64_t vaddr, bool is_write, void *pc) {
  if (!pages_see(page, is_write)) return;
  if (!is_write && pc) {
    /* Held back for one access: "add $1, (mem)" asks for the page writable at once, so its write is told first. */
    v->has_read_pending = true;
    v->read_page = page, v->read_vaddr = vaddr, v->read_pc = pc;
    return;
  }
  stream_lock();
  tell_batch(v);
  stream_touch(v->thread, is_write, page);
  tell_read(v); /* the same instruction's: a read after its own write fault */
  stream_unlock();
}

/* ---- windows ---- */

static void add_to_window(struct vcpu *v, uint64_t page, bool is_write) {
  struct window_entry *last = v->nr_batch > 0 ? &v->batch[v->nr_batch - 1] : NULL;
  if (last && last->page == page && last->count < INT32_MAX) {
    last->count++;
    last->is_write |= is_write;
    return;
  }
  if (v->nr_batch == BATCH) {
    stream_lock();
    tell_batch(v);
    stream_unlock();
  }
  v->batch[v->nr_batch++] = (struct window_entry){page, 1, is_write};
}

static void begin_window(struct vcpu *v) {
  filter_drop_all(v); /* and it stays empty: inside a window every access takes the slow path */
  v->in_window = true;
  v->until_change = control->window_accesses;
  stream_lock();
  stream_begin(EV_WINDOW_BEGIN);
  stream_put(v->thread);
  stream_end();
  stream_unlock();
}

static void end_window(struct vcpu *v) {
  stream_lock();
  tell_batch(v);
  stream_begin(EV_WINDOW_END);
  stream_put(v->thread);
  stream_put(v->represented);
  stream_end();
  stream_unlock();
  v->in_window = false;
  v->represented = 0;
  v->until_change = v->period - control->window_accesses;
  /* Early windows lie closer together, so that a short program has some. */
  uint64_t longer = v->period + v->period / 4;
  v->period = longer < control->sample_every ? longer : control->sample_every;
}

static bool is_full(void) {
  return control->sample_every == control->window_accesses;
}

/* ---- the periodic look ---- */

/* Adds up the accesses since the last look. */
static void settle(struct vcpu *v) {
  uint64_t done = (uint64_t)(v->armed - v->left);
  v->armed = v->left;
  atomic_fetch_add_explicit(&control->accesses, done, memory_order_relaxed);
  v->represented += done;
  v->until_change -= done < v->until_change ? done : v->until_change;
  v->until_flush -= (int64_t)done;
  if (v->until_flush > 0) return;
  v->until_flush = FLUSH_EVERY;
  filter_drop_all(v);
}

static void arm(struct vcpu *v) {
  bool is_change_near = control->window_accesses && !(v->in_window && is_full()) && v->until_change < CHECK_EVERY;
  v->left = v->armed = is_change_near ? (int64_t)v->until_change : CHECK_EVERY;
}

static void emit_counts(uint64_t page, uint64_t nr_pages, uint32_t reads, uint32_t writes) {
  stream_begin(EV_COUNTS);
  stream_put(self.process);
  stream_put_signed((int64_t)(page - control->last_page));
  stream_put(nr_pages);
  stream_put(reads);
  stream_put(writes);
  control->last_page = page + nr_pages;
  stream_end();
}

void end_interval(void) {
  filters_drop_all();
  stream_lock();
  pages_end_interval(emit_counts);
  stream_unlock();
  uint64_t length = control->interval_ticks;
  uint32_t doublings = self.nr_intervals / INTERVALS_PER_LENGTH;
  if (length == 0) length = (uint64_t)FIRST_INTERVAL << (doublings < 20 ? doublings : 20);
  self.nr_intervals++;
  self.next_interval = self.insns + length;
}

static void look(struct vcpu *v) {
  settle(v);
  sync_clock(v);
  if (self.insns >= self.next_interval) {
    tell_all();
    end_interval();
  }
  if (control->window_accesses && v->until_change == 0) {
    if (!v->in_window)
      begin_window(v);
    else if (!is_full())
      end_window(v);
  }
  arm(v);
}

/* ---- the slow path ---- */

static void slow_page(struct vcpu *v, uint64_t page, uint64_t vaddr, bool is_write, void *pc) {
  /* The one access a held back read waits for is this one or none. */
  bool is_answer = v->has_read_pending && is_write && v->read_pc == pc && v->read_vaddr == vaddr;
  if (v->has_read_pending && !is_answer) {
    stream_lock();
    tell_read(v);
    tell_batch(v);
    stream_unlock();
  }
  see(v, page, vaddr, is_write, pc);
  if (v->in_window) {
    pages_count(page, is_write, 1);
    add_to_window(v, page, is_write);
    return;
  }
  uint64_t key = page << 1 | is_write;
  uint64_t *slot = &v->slots[key & (SLOTS - 1)];
  if (*slot >> COUNT_BITS != key) {
    slot_empty(slot);
    *slot = key << COUNT_BITS;
  }
  ++*slot;
}

static void slow_access(struct vcpu *v, uint32_t info, uint64_t vaddr, void *pc) {
  if (self.is_quiet) {
    v->left = v->armed = CHECK_EVERY;
    return;
  }
  bool is_write = info >> 17 & 1;
  uint64_t page = vaddr >> PAGE_SHIFT;
  process_lock();
  if (self.is_quiet || v->is_gone) return process_unlock();
  /* The fast path counts an access down only if its page matched; here the others are. */
  uint64_t key = page << 1 | is_write;
  bool was_counted = v->slots[key & (SLOTS - 1)] >> COUNT_BITS == key && (vaddr & 4095) <= 4096 - 8;
  if (!was_counted) v->left--;
  if (v->left <= 0) look(v);
  slow_page(v, page, vaddr, is_write, pc);
  uint64_t last = (vaddr + (1u << qemu_plugin_mem_size_shift(info)) - 1) >> PAGE_SHIFT;
  if (last != page) slow_page(v, last, vaddr, is_write, pc);
  process_unlock();
}

void access_range(struct vcpu *v, uint64_t addr, uint64_t size, bool is_write) {
  if (size == 0) return;
  uint64_t last = (addr + size - 1) >> PAGE_SHIFT;
  for (uint64_t page = addr >> PAGE_SHIFT; page <= last; page++) {
    see(v, page, addr, is_write, NULL);
    pages_count(page, is_write, 1);
  }
}

/*
 * Code pages are touched when QEMU first translates them, which is when the program first runs them. They decide no TLB
 * (only data accesses do) but they are faulted in and count in the resident set.
 */
void see_code(uint64_t vaddr) {
  struct vcpu *v = current ? current : &first_vcpu;
  process_lock();
  if (!self.is_quiet && !v->is_gone) see(v, vaddr >> PAGE_SHIFT, vaddr, false, NULL);
  process_unlock();
}

/* ---- threads ---- */

void vcpu_reset(struct vcpu *v, uint32_t thread) {
  memset(v, 0, sizeof *v);
  for (uint32_t i = 0; i < SLOTS; i++) v->slots[i] = EMPTY_SLOT;
  v->thread = thread;
  uint64_t first = control->window_accesses * 8;
  v->period = first < control->sample_every ? first : control->sample_every;
  v->until_change = is_full() ? 0 : control->window_accesses / 4;
  v->left = v->armed = 1;
}

void vcpu_finish(struct vcpu *v) {
  settle(v);
  sync_clock(v);
  filter_drop_all(v);
  stream_lock();
  tell_read(v);
  stream_unlock();
  if (v->in_window) end_window(v);
  v->is_gone = true;
}
