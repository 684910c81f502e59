/* Frames of protocol.h over standard input and output. */
#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REQUEST_MAX (1u << 20)
#define ANSWER_MAX (64u << 20)

static unsigned char *request, *answer;
static uint32_t request_length, request_at;
static size_t answer_length;

void *private_memory(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) _exit(3);
  madvise(memory, bytes, MADV_NOHUGEPAGE);
  madvise(memory, bytes, MADV_DONTFORK);
  return memory;
}

void wire_start(void) {
  request = private_memory(REQUEST_MAX);
  answer = private_memory(ANSWER_MAX);
}

static int read_whole(void *to, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = read(0, (char *)to + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    done += (size_t)n;
  }
  return 1;
}

int wire_receive(int timeout_ms) {
  struct pollfd input = {.fd = 0, .events = POLLIN};
  if (poll(&input, 1, timeout_ms) == 0) return -1;
  if (!read_whole(&request_length, 4) || request_length > REQUEST_MAX) return 0;
  request_at = 0;
  return read_whole(request, request_length);
}

static const void *take(size_t size) {
  if (size > request_length - request_at) _exit(4);
  const void *at = request + request_at;
  request_at += (uint32_t)size;
  return at;
}

uint32_t take_u32(void) {
  uint32_t value;
  memcpy(&value, take(4), 4);
  return value;
}

uint64_t take_u64(void) {
  uint64_t value;
  memcpy(&value, take(8), 8);
  return value;
}

void take_string(char *text, size_t size) {
  uint32_t length = take_u32();
  const void *from = take(length);
  size_t kept = length < size ? length : size - 1;
  memcpy(text, from, kept);
  text[kept] = 0;
}

static void *append(size_t size) {
  if (size > ANSWER_MAX - answer_length) _exit(4);
  void *room = answer + answer_length;
  answer_length += size;
  return room;
}

void *put_room(size_t size) {
  append(-answer_length & 7);
  return memset(append(size), 0, size);
}

void put_bytes(const void *bytes, size_t size) { memcpy(append(size), bytes, size); }
void put_u32(uint32_t value) { put_bytes(&value, 4); }
void put_u64(uint64_t value) { put_bytes(&value, 8); }

void put_string(const char *text) {
  put_u32((uint32_t)strlen(text));
  put_bytes(text, strlen(text));
}

void answer_begin(int32_t status) {
  answer_length = 4;
  put_u32((uint32_t)status);
}

void answer_send(void) {
  uint32_t length = (uint32_t)answer_length - 4;
  memcpy(answer, &length, 4);
  for (size_t done = 0; done < answer_length;) {
    ssize_t n = write(1, answer + done, answer_length - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(4);
    done += (size_t)n;
  }
}
