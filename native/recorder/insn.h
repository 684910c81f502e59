/*
 * Which x86-64 instructions surely access no data: common ones without a memory operand, so that generated code need not
 * call back for them. Whatever is not recognised counts as an access.
 */
#ifndef RECORDER_INSN_H
#define RECORDER_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opcodes of the second map (0f xx) that have a ModRM byte and touch memory only through it. */
static inline bool is_plain_0f(uint8_t op) {
  return (op >= 0x40 && op <= 0x4f) /* cmov */ || (op >= 0x90 && op <= 0x9f) /* set */ ||
         op == 0xaf /* imul */ || op == 0xb6 || op == 0xb7 || op == 0xbe || op == 0xbf /* movzx, movsx */ ||
         op == 0x1e /* endbr */;
}

/* The same for the first map. */
static inline bool is_plain(uint8_t op) {
  bool is_arithmetic = op < 0x40 && (op & 7) < 4; /* add or adc sbb and sub xor cmp */
  return is_arithmetic || op == 0x63 || (op >= 0x80 && op <= 0x8b) || op == 0xc0 || op == 0xc1 || op == 0xc6 ||
         op == 0xc7 || (op >= 0xd0 && op <= 0xd3) || op == 0xf6 || op == 0xf7;
}

static inline bool insn_accesses_nothing(const uint8_t *insn, size_t size) {
  size_t i = 0;
  while (i < size && (insn[i] == 0x66 || insn[i] == 0xf3)) i++;
  if (i < size && (insn[i] & 0xf0) == 0x40) i++; /* REX */
  if (i + 1 >= size) return i < size && insn[i] == 0x90; /* nop */
  uint8_t op = insn[i], next = insn[i + 1];
  bool is_register_form = next >= 0xc0; /* of a ModRM byte */
  if (op == 0x0f) {
    if (next >= 0x80 && next <= 0x8f) return true; /* jcc */
    if (next == 0x1f) return true;                 /* long nop */
    return i + 2 < size && is_plain_0f(next) && insn[i + 2] >= 0xc0;
  }
  if ((op >= 0x70 && op <= 0x7f) || op == 0xeb || op == 0xe9) return true; /* jumps */
  if ((op >= 0xb0 && op <= 0xbf) || op == 0x8d) return true;               /* mov immediate, lea */
  if (op < 0x40 && (op & 7) >= 4 && (op & 7) <= 5) return true;            /* arithmetic with an immediate */
  return is_plain(op) && is_register_form;
}

#endif
