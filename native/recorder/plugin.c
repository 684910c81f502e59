/*
 * The recorder: a plugin for qemu-x86_64 that writes what a program does to its memory into a shared ring.
 *
 * Built from this one file, which takes in the others. Started as
 *     qemu-x86_64 -plugin recorder.so,control=PATH program...
 * where PATH opens the control block that launcher.c made. See docs/recording.md.
 */
#define _GNU_SOURCE
#include "qemu-plugin-abi.h"

#include "insn.h"
#include "access.c"
#include "exec-target.c"
#include "pages.c"
#include "process.c"
#include "stream.c"
#include "syscalls.c"

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static void on_block_run(unsigned index, void *nr_insns) {
  vcpus[index]->insns += (uintptr_t)nr_insns;
}

static void on_block(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  if (!self.has_image) process_image();
  size_t n = qemu_plugin_tb_n_insns(tb);
  /* One counter in generated code is exact for one thread; QEMU translates anew when there are more. */
  if (self.is_threaded)
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block_run, QEMU_PLUGIN_CB_NO_REGS, (void *)n);
  else
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &self.inline_insns, n);
  see_code(qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0)));
  see_code(qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, n - 1)));
  for (size_t i = 0; i < n; i++) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    if (insn_accesses_nothing(qemu_plugin_insn_data(insn), qemu_plugin_insn_size(insn))) continue;
    qemu_plugin_register_vcpu_mem_cb(insn, self.is_threaded ? on_access : on_access_alone, QEMU_PLUGIN_CB_NO_REGS,
                                     QEMU_PLUGIN_MEM_RW, (void *)qemu_plugin_insn_vaddr(insn));
  }
}

static void on_vcpu(qemu_plugin_id_t id, unsigned index) {
  static bool has_first;
  (void)id;
  if (index >= MAX_VCPUS) abort();
  struct vcpu *v = &first_vcpu;
  if (has_first) v = mmap(NULL, sizeof *v, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (v == MAP_FAILED) abort();
  process_lock();
  if (!has_first) {
    has_first = true;
    vcpu_reset(v, process_first_thread());
  } else {
    stream_lock();
    uint32_t thread = control->nr_threads++;
    stream_begin(EV_THREAD);
    stream_put(thread);
    stream_put(self.process);
    stream_end();
    stream_unlock();
    vcpu_reset(v, thread);
  }
  vcpus[index] = v;
  if (index >= self.nr_vcpus) self.nr_vcpus = index + 1;
  process_unlock();
}

static void on_vcpu_exit(qemu_plugin_id_t id, unsigned index) {
  (void)id;
  process_lock();
  struct vcpu *v = vcpus[index];
  vcpus[index] = NULL;
  process_unlock();
  if (v && v != &first_vcpu) munmap(v, sizeof *v);
}

static void on_syscall(qemu_plugin_id_t id, unsigned index, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)a7, (void)a8;
  struct vcpu *v = current = vcpus[index];
  memcpy(v->arg, (uint64_t[]){a1, a2, a3, a4, a5, a6}, sizeof v->arg);
  syscall_begins(v, number);
}

static void on_syscall_end(qemu_plugin_id_t id, unsigned index, int64_t number, int64_t result) {
  (void)id;
  syscall_ends(vcpus[index], number, result);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
                                                               char **argv) {
  (void)info;
  const char *path = NULL;
  for (int i = 0; i < argc; i++)
    if (strncmp(argv[i], "control=", 8) == 0) path = argv[i] + 8;
  /* The fast path reads the store bit itself. */
  if (qemu_plugin_mem_is_store(1u << 16) || !qemu_plugin_mem_is_store(2u << 16)) return -1;
  if (!path || !process_starts(path)) return -1;
  qemu_plugin_register_vcpu_init_cb(id, on_vcpu);
  qemu_plugin_register_vcpu_exit_cb(id, on_vcpu_exit);
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  qemu_plugin_register_vcpu_syscall_ret_cb(id, on_syscall_end);
  return 0;
}
