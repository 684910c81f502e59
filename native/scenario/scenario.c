/*
 * Verbs of protocol.h over the actors.
 *
 * Owns:  the channels. A channel is a process or a thread; `process` is the channel of its process.
 * Holds: counters move only between counters_before and counters_after around one operation.
 */
#define _GNU_SOURCE
#include "scenario.h"
#include "actor.h"
#include "canary.h"
#include "counters.h"
#include "daemon.h"
#include "facilities.h"
#include "hush.h"
#include "lease.h"
#include "observe.h"
#include "protocol.h"
#include "trace.h"
#include "undo.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEADLINE_MS 20000
#define THP_EXCEPT_ADVISED 2 /* PR_THP_DISABLE_EXCEPT_ADVISED, younger than the headers */

struct channel {
  int pid_fd; /* 0: free */
  uint32_t process;
  pid_t thread; /* 0: this is the process's first */
  int64_t minflt, majflt; /* of a process, all its threads */
  char mm[MM_NAME_BYTES]; /* of a process: how events name its address space; "" not known yet */
  struct watched watched;
};

static struct channel channels[MAX_CHANNELS];
static int is_open;

int scenario_is_open(void) { return is_open; }

static void fail(int32_t status, const char *what) {
  answer_begin(status);
  put_string(what);
  answer_send();
}

static void answer_result(int64_t result) {
  answer_begin(0);
  put_u64((uint64_t)result);
  answer_send();
}

/* Scenarios still to be hushed because others were heard. */
#define LOUD_SCENARIOS 100
static int nr_loud;

static void hush_from_here(void) {
  pid_t pids[MAX_CHANNELS + 1] = {0};
  int nr = 0;
  for (int c = 0; c < MAX_CHANNELS; c++)
    if (channels[c].watched.pid) pids[nr++] = channels[c].watched.pid;
  hush_need(1, pids);
}

/* A size that anybody may use: from here on others make huge pages too, until the scenario ends. */
static void heed_knob(const char *path, const char *value) {
  counters_note_knob(path, value);
  if (strcmp(value, "always") || !strstr(path, "enabled")) return;
  daemon_expect_others();
  hush_from_here();
}

/* Others may make huge pages because they advised them. */
static void heed_others(void) {
  if (!counters_heard_others()) return;
  if (nr_loud == 0) hush_from_here();
  nr_loud = LOUD_SCENARIOS;
}

/* ---- Channels -------------------------------------------------------------------------------------------------- */

void scenario_start(void) {
  void *memory = mmap((void *)SHARED_ADDRESS, sizeof(struct shared), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (memory == MAP_FAILED) _exit(3);
  // Advised memory stays eligible: without that the scratch area of drain_lru could not be collapsed.
  prctl(PR_SET_THP_DISABLE, 1, THP_EXCEPT_ADVISED, 0, 0);
  actor_prepare();
  int zero = open("/dev/zero", O_RDWR);
  dup2(zero, ZERO_FD);
  close(zero);
}

/* A fresh pair of ends: nothing of an earlier scenario is left in it. */
static int open_channel(uint32_t c) {
  int ends[2];
  close(ACTOR_FD + (int)c);
  close(SUPER_FD + (int)c);
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) return -errno;
  dup2(ends[0], ACTOR_FD + (int)c);
  dup2(ends[1], SUPER_FD + (int)c);
  close(ends[0]);
  close(ends[1]);
  return 0;
}

static int open_channels(void) {
  for (uint32_t c = 0; c < MAX_CHANNELS; c++) {
    int error = open_channel(c);
    if (error) return error;
  }
  return 0;
}

static void forget_channel(struct channel *channel) {
  if (channel->pid_fd) close(channel->pid_fd);
  unwatch_process(&channel->watched);
  *channel = (struct channel){0};
}

/* Waits for a reply on a channel or for the death of its process: 0, FAILED_DEAD or FAILED_STUCK. */
static int await_reply(uint32_t c, int pid_fd, struct reply *reply) {
  struct pollfd fds[2] = {{.fd = SUPER_FD + (int)c, .events = POLLIN},
                          {.fd = pid_fd, .events = POLLIN}};
  int n = poll(fds, pid_fd > 0 ? 2 : 1, DEADLINE_MS);
  if (n == 0) return FAILED_STUCK;
  if (fds[0].revents & POLLIN &&
      recv(SUPER_FD + (int)c, reply, sizeof *reply, MSG_DONTWAIT) == sizeof *reply)
    return 0;
  return FAILED_DEAD;
}

static int adopt(uint32_t c, pid_t pid) {
  struct channel *channel = &channels[c];
  if (!undo_note(UNDO_PROCESS, pid, NULL, NULL)) return -ENOSPC;
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return -errno;
  *channel = (struct channel){.pid_fd = fd, .process = c};
  struct reply reply;
  int error = await_reply(c, fd, &reply);
  return error ? error : watch_process(&channel->watched, pid);
}

static int start_main(void) {
  pid_t pid = fork();
  if (pid < 0) return -errno;
  if (pid == 0) actor_become(0);
  return adopt(0, pid);
}

/* One operation in an actor, with counters around it. 0 or a failure; then the scenario is over. */
static int operate(uint32_t c, const struct request *request, struct reply *reply) {
  if (c >= MAX_CHANNELS || !channels[c].pid_fd) return FAILED_PROTOCOL;
  counters_before();
  if (send(SUPER_FD + (int)c, request, sizeof *request, MSG_NOSIGNAL) != sizeof *request)
    return FAILED_DEAD;
  int error = await_reply(c, channels[c].pid_fd, reply);
  counters_after();
  if (error) return error;
  heed_others();
  struct channel *process = &channels[channels[c].process];
  process->minflt += reply->minflt;
  process->majflt += reply->majflt;
  return 0;
}

/* As operate, and answers the caller where it failed. True if it was done. */
static int operated(uint32_t c, const struct request *request, struct reply *reply) {
  int error = operate(c, request, reply);
  if (error == FAILED_STUCK) fail(error, "a process did not answer in time");
  else if (error == FAILED_DEAD) fail(error, "a process of the scenario died");
  else if (error) fail(error, "no such process");
  return error == 0;
}

static void serve_simple(uint32_t op, int nr_args) {
  struct request request = {.op = op};
  struct reply reply;
  uint32_t c = take_u32();
  if (op != OP_CALL) request.args[0] = take_u32();
  for (int i = op != OP_CALL; i < nr_args; i++) request.args[i] = take_u64();
  if (op == OP_CALL && request.args[0] == SYS_madvise && request.args[3] == MADV_PAGEOUT)
    swap_note_use();
  if (operated(c, &request, &reply)) answer_result(reply.result);
}

/* ---- Events ---------------------------------------------------------------------------------------------------- */

#define MAX_EVENTS 4096

struct kept_event {
  uint32_t channel;
  char text[sizeof((struct traced_event *)0)->text];
};

static struct kept_event *events;
static int nr_events;

int scenario_nr_events(void) { return nr_events; }

int scenario_note_event(const struct traced_event *event) {
  for (uint32_t c = 0; c < MAX_CHANNELS; c++) {
    if (!channels[c].mm[0] || strcmp(channels[c].mm, event->mm)) continue;
    if (nr_events < MAX_EVENTS) {
      events[nr_events].channel = c;
      memcpy(events[nr_events++].text, event->text, sizeof event->text);
    }
    return 1;
  }
  return 0;
}

static void take_events(void) {
  struct traced_event event;
  while (trace_next(&event)) scenario_note_event(&event);
}

/* Gets to know an address space by an event that its process emits. 0 or a failure. */
static int identify_process(uint32_t c) {
  struct request request = {.op = OP_IDENTIFY};
  struct reply reply;
  trace_flush();
  if (send(SUPER_FD + (int)c, &request, sizeof request, MSG_NOSIGNAL) != sizeof request)
    return FAILED_DEAD;
  int error = await_reply(c, channels[c].pid_fd, &reply);
  struct traced_event event;
  while (!error && trace_next(&event))
    if (event.pid == channels[c].watched.pid)
      memcpy(channels[c].mm, event.mm, sizeof event.mm);
  return error;
}

static int identify_all(void) {
  if (!trace_ready()) return 0;
  for (uint32_t c = 0; c < MAX_CHANNELS; c++) {
    int is_process = channels[c].pid_fd && !channels[c].thread;
    int error = is_process && !channels[c].mm[0] ? identify_process(c) : 0;
    if (error) return error;
  }
  trace_flush();
  return 0;
}

/* ---- Verbs ----------------------------------------------------------------------------------------------------- */

static void serve_hello(void) {
  static char *names[2];
  for (int i = 0; i < 2; i++)
    if (!names[i]) names[i] = private_memory(65536);
  counters_names(names[0], names[1], 65536);
  answer_begin(0);
  put_string(names[0]);
  put_string(names[1]);
  answer_send();
}

static void close_scenario(void) {
  for (uint32_t c = 0; c < MAX_CHANNELS; c++) forget_channel(&channels[c]);
  undo_scenario();
  daemon_end_scenario();
  hush_need(0, &(pid_t){0});
  is_open = 0;
}

static int begin_knobs(uint32_t nr, char *why, int size) {
  char path[160], value[64];
  int error = 0;
  for (uint32_t i = 0; i < nr; i++) {
    take_string(path, sizeof path);
    take_string(value, sizeof value);
    int result = error ? 0 : knob_write(path, value);
    heed_knob(path, value);
    if (!result) continue;
    error = result;
    snprintf(why, (size_t)size, "%s cannot be set to %s", path, value);
  }
  return error;
}

static void serve_begin(void) {
  char why[300] = "a process cannot be started";
  if (is_open) close_scenario();
  int error = lease_take((int)take_u32(), why, sizeof why);
  if (!error) canary_start();
  uint64_t swap_bytes = take_u64();
  counters_forget_knobs();
  if (!error && (error = daemon_begin_scenario()) != 0)
    snprintf(why, sizeof why, "khugepaged cannot be brought to a known place in its list");
  if (!error) {
    daemon_before_knob();
    error = begin_knobs(take_u32(), why, sizeof why);
    daemon_after_knob();
  }
  knobs_withhold();
  if (!error) split_folios_of_others();
  if (!error && (error = swap_ready(swap_bytes)) != 0)
    snprintf(why, sizeof why, "a zram device cannot be used for swap");
  if (!error) error = open_channels();
  if (!error) error = start_main();
  is_open = 1;
  if (error) {
    close_scenario();
    fail(error, why);
    return;
  }
  counters_reset();
  if (nr_loud > 0 && nr_loud--) hush_from_here();
  answer_begin(0);
  answer_send();
}

static void serve_touch(void) {
  uint32_t c = take_u32();
  struct request request = {.op = OP_TOUCH};
  struct reply reply;
  request.args[0] = take_u64();
  request.args[1] = take_u32();
  request.args[2] = take_u32();
  request.args[3] = take_u32();
  request.args[4] = take_u64();
  if (request.args[1] > VALUES_MAX) return fail(FAILED_PROTOCOL, "too many pages at once");
  if (!operated(c, &request, &reply)) return;
  answer_begin(0);
  put_u32((uint32_t)reply.signal);
  put_u32(reply.nr_done);
  if (!request.args[3]) put_bytes(((struct shared *)SHARED_ADDRESS)->values, reply.nr_done * 8);
  answer_send();
}

static void serve_mincore(void) {
  uint32_t c = take_u32();
  struct request request = {.op = OP_MINCORE};
  struct reply reply;
  request.args[0] = take_u64();
  request.args[1] = take_u64();
  uint64_t nr = (request.args[1] + PAGE - 1) / PAGE;
  if (nr > sizeof(struct shared)) return fail(FAILED_PROTOCOL, "too many pages at once");
  if (!operated(c, &request, &reply)) return;
  answer_begin(0);
  put_u64((uint64_t)reply.result);
  put_u32(reply.result < 0 ? 0 : (uint32_t)nr);
  if (reply.result >= 0) put_bytes((void *)SHARED_ADDRESS, nr);
  answer_send();
}

static void serve_fork(void) {
  uint32_t c = take_u32(), child = take_u32();
  struct request request = {.op = OP_FORK, .args = {child}};
  struct reply reply;
  if (child >= MAX_CHANNELS || channels[child].pid_fd) return fail(FAILED_PROTOCOL, "channel");
  if (!operated(c, &request, &reply)) return;
  int error = reply.result > 0 ? adopt(child, (pid_t)reply.result) : 0;
  if (error) return fail(error, "a forked process cannot be watched");
  answer_result(reply.result);
}

static void serve_thread(void) {
  uint32_t c = take_u32(), thread = take_u32();
  struct request request = {.op = OP_THREAD, .args = {thread}};
  struct reply reply, ready;
  if (thread >= MAX_CHANNELS || channels[thread].pid_fd) return fail(FAILED_PROTOCOL, "channel");
  if (!operated(c, &request, &reply)) return;
  if (reply.result > 0) {
    channels[thread].pid_fd = dup(channels[c].pid_fd);
    channels[thread].process = channels[c].process;
    channels[thread].thread = (pid_t)reply.result;
    int error = await_reply(thread, channels[thread].pid_fd, &ready);
    if (error) return fail(error, "a thread did not start");
  }
  answer_result(reply.result);
}

static int has_thread_ended(const struct channel *thread) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task/%d", channels[thread->process].watched.pid,
           thread->thread);
  for (int ms = 0; ms < DEADLINE_MS; ms++) {
    if (access(path, F_OK)) return 1;
    usleep(1000);
  }
  return 0;
}

static void serve_exit_thread(uint32_t c) {
  struct request request = {.op = OP_EXIT_THREAD};
  counters_before();
  send(SUPER_FD + (int)c, &request, sizeof request, MSG_NOSIGNAL);
  int has_ended = has_thread_ended(&channels[c]);
  counters_after();
  if (!has_ended) return fail(FAILED_STUCK, "a thread did not end in time");
  forget_channel(&channels[c]);
  answer_result(0);
}

/* The process is gone, its memory with it, when its pidfd says so; its threads' channels go too. */
static void serve_exit(void) {
  uint32_t c = take_u32();
  struct request request = {.op = OP_EXIT};
  if (c >= MAX_CHANNELS || !channels[c].pid_fd) return fail(FAILED_PROTOCOL, "no such process");
  if (channels[c].thread) return serve_exit_thread(c);
  uint32_t process = channels[c].process;
  counters_before();
  send(SUPER_FD + (int)c, &request, sizeof request, MSG_NOSIGNAL);
  struct pollfd over = {.fd = channels[c].pid_fd, .events = POLLIN};
  int n = poll(&over, 1, DEADLINE_MS);
  counters_after();
  if (n == 0) return fail(FAILED_STUCK, "a process did not end in time");
  struct undo_entry *entry = undo_find(UNDO_PROCESS, channels[process].watched.pid, NULL);
  if (entry) undo_forget(entry);
  for (uint32_t i = 0; i < MAX_CHANNELS; i++)
    if (i != process && channels[i].pid_fd && channels[i].process == process)
      forget_channel(&channels[i]);
  forget_channel(&channels[process]);
  answer_result(0);
}

/* Writes something of the whole system, with counters around it. */
static void serve_write(int is_drop) {
  char path[160] = "/proc/sys/vm/drop_caches", value[64] = "2";
  if (!is_drop) {
    take_string(path, sizeof path);
    take_string(value, sizeof value);
  }
  int may_start = strstr(path, "enabled") != NULL;
  if (may_start) daemon_before_knob();
  counters_before();
  knobs_withhold();
  long tries = canary_failures();
  int64_t result = is_drop ? write_text(path, value) : knob_write(path, value);
  tries = canary_failures() - tries;
  if (!is_drop) heed_knob(path, value);
  // Stopping khugepaged takes longer than others can be kept quiet.
  if (is_drop) counters_after_tries(tries > 1 ? (int)tries : 1);
  else counters_after_long();
  if (may_start) daemon_after_knob();
  answer_result(result);
}

static void serve_read_knob(void) {
  char path[160], value[1024] = "";
  take_string(path, sizeof path);
  knobs_lend();
  int64_t result = knob_read(path, value, sizeof value);
  knobs_withhold();
  answer_begin(0);
  put_u64((uint64_t)result);
  put_string(value);
  answer_send();
}

static void serve_memcg(void) {
  char name[64];
  take_string(name, sizeof name);
  int64_t limit = (int64_t)take_u64();
  swap_note_use();
  counters_before();
  int64_t result = memcg_limit(name, limit);
  counters_after();
  if (result == FAILED_FACILITY) return fail(FAILED_FACILITY, "no memory controller of cgroup v1");
  answer_result(result);
}

static void serve_join(void) {
  char name[64];
  uint32_t c = take_u32();
  take_string(name, sizeof name);
  if (c >= MAX_CHANNELS || !channels[c].pid_fd) return fail(FAILED_PROTOCOL, "no such process");
  answer_result(memcg_join(name, channels[channels[c].process].watched.pid));
}

static void serve_swap(void) {
  uint32_t is_on = take_u32();
  counters_before();
  knobs_withhold();
  int result = is_on ? swap_on() : swap_off();
  counters_after_long(); // swapoff waits some 20 ms, and brings small pages back
  answer_result(result);
}

static void serve_observe(void) {
  if (take_u32()) drain_lru();
  observe_begin();
  answer_begin(0);
  uint32_t nr = take_u32();
  for (uint32_t i = 0; i < nr; i++) {
    uint32_t c = take_u32(), nr_ranges = take_u32();
    if (c >= MAX_CHANNELS || !channels[c].watched.pid) return fail(FAILED_PROTOCOL, "no process");
    struct channel *process = &channels[c];
    put_u64((uint64_t)process->minflt);
    put_u64((uint64_t)process->majflt);
    put_status(&process->watched);
    // THPeligible says what the knobs say.
    hush_on();
    knobs_lend();
    put_vmas(&process->watched);
    knobs_withhold();
    hush_off();
    for (uint32_t k = 0; k < nr_ranges; k++) {
      uint64_t start = take_u64();
      put_pages(&process->watched, start, take_u32());
    }
  }
  counters_put();
  answer_send();
}

static void serve_peek(void) {
  uint32_t c = take_u32();
  uint64_t start = take_u64();
  uint32_t nr = take_u32(), step = take_u32();
  if (c >= MAX_CHANNELS || !channels[c].pid_fd) return fail(FAILED_PROTOCOL, "no such process");
  answer_begin(0);
  put_contents(&channels[channels[c].process].watched, start, nr, step);
  answer_send();
}

static void serve_trace(void) {
  if (!events) events = private_memory(MAX_EVENTS * sizeof *events);
  int error = identify_all();
  nr_events = 0;
  if (error) return fail(error, "a process of the scenario cannot be identified");
  answer_result(trace_ready());
}

static void serve_events(void) {
  take_events();
  answer_begin(0);
  put_u32((uint32_t)nr_events);
  for (int i = 0; i < nr_events; i++) {
    put_u32(events[i].channel);
    put_string(events[i].text);
  }
  nr_events = 0;
  answer_send();
}

static void serve_khugepaged(void) {
  char why[120];
  uint32_t nr = take_u32();
  int error = 0;
  for (uint32_t i = 0; i < nr && !error; i++) error = daemon_pass(why, sizeof why);
  daemon_settle();
  if (error) return fail(error, why);
  answer_result(0);
}

static void serve_process_madvise(void) {
  uint32_t c = take_u32();
  struct request request = {.op = OP_PROCESS_MADVISE};
  struct reply reply;
  uint64_t *vector = ((struct shared *)SHARED_ADDRESS)->values;
  request.args[0] = take_u32();
  uint32_t target = take_u32(), nr = take_u32();
  if (target >= MAX_CHANNELS || !channels[target].pid_fd || nr > MAX_VECTOR)
    return fail(FAILED_PROTOCOL, "no such process");
  request.args[1] = (uint64_t)channels[channels[target].process].watched.pid;
  for (uint32_t i = 0; i < 2 * nr; i++) vector[i] = take_u64();
  for (int i = 2; i < 5; i++) request.args[i] = take_u64();
  request.args[5] = take_u32();
  if (operated(c, &request, &reply)) answer_result(reply.result);
}

/* Fallbacks without a charge that failed: no memory for a huge page, which is not the scenario's doing. */
static void serve_end(void) {
  uint32_t is_disturbed = counter_change("thp_fault_fallback") !=
                              counter_change("thp_fault_fallback_charge") ||
                          counter_change("thp_collapse_alloc_failed") != 0 || daemon_met_others();
  if (is_open) close_scenario();
  answer_begin(0);
  put_u32(is_disturbed);
  answer_send();
}

void scenario_serve(void) {
  uint32_t verb = take_u32();
  if (!is_open && verb != V_HELLO && verb != V_BEGIN && verb != V_END)
    return fail(FAILED_PROTOCOL, "no scenario is open");
  switch (verb) {
    case V_HELLO: return serve_hello();
    case V_BEGIN: return serve_begin();
    case V_CALL: return serve_simple(OP_CALL, 7);
    case V_TOUCH: return serve_touch();
    case V_MINCORE: return serve_mincore();
    case V_FORK: return serve_fork();
    case V_THREAD: return serve_thread();
    case V_EXIT: return serve_exit();
    case V_PIN: return serve_simple(OP_PIN, 3);
    case V_HOLD: return serve_simple(OP_HOLD, 2);
    case V_RELEASE: return serve_simple(OP_RELEASE, 1);
    case V_WRITE_KNOB: return serve_write(0);
    case V_READ_KNOB: return serve_read_knob();
    case V_MEMCG: return serve_memcg();
    case V_JOIN: return serve_join();
    case V_SWAP: return serve_swap();
    case V_DROP_CACHES: return serve_write(1);
    case V_OBSERVE: return serve_observe();
    case V_PEEK: return serve_peek();
    case V_KHUGEPAGED: return serve_khugepaged();
    case V_PROCESS_MADVISE: return serve_process_madvise();
    case V_TRACE: return serve_trace();
    case V_EVENTS: return serve_events();
    case V_END: return serve_end();
    default: fail(FAILED_PROTOCOL, "unknown verb");
  }
}
