/* See exec-target.h. The "#!" line is read as execve(2) describes it: one interpreter, at most one argument. */
#include "exec-target.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SCRIPTS 4

static int read_head(const char *path, unsigned char *to, int room) {
  struct stat st;
  if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || access(path, X_OK) < 0) return -1;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int size = (int)read(fd, to, room);
  close(fd);
  return size;
}

static enum target_verdict elf_verdict(const unsigned char *head) {
  const Elf64_Ehdr *e = (const Elf64_Ehdr *)head;
  return head[EI_CLASS] == ELFCLASS64 && e->e_machine == EM_X86_64 ? TARGET_RUNS : TARGET_FOREIGN;
}

/* Puts an argument before those that are there. */
static int push_prefix(struct exec_target *to, const char *text) {
  if (to->nr_prefix == MAX_PREFIX || strlen(text) >= PATH_BYTES) return 0;
  memmove(to->prefix + 1, to->prefix, sizeof to->prefix[0] * to->nr_prefix);
  strcpy(to->prefix[0], text);
  to->nr_prefix++;
  return 1;
}

enum target_verdict exec_target(const char *path, struct exec_target *to) {
  to->nr_prefix = 0;
  if (strlen(path) >= PATH_BYTES) return TARGET_FAILS;
  strcpy(to->program, path);
  for (int depth = 0; depth <= MAX_SCRIPTS; depth++) {
    unsigned char head[512] = {0};
    int size = read_head(to->program, head, sizeof head - 1);
    if (size >= (int)sizeof(Elf64_Ehdr) && memcmp(head, ELFMAG, SELFMAG) == 0) return elf_verdict(head);
    if (size < 3 || head[0] != '#' || head[1] != '!') return TARGET_FAILS;

    char *line = (char *)head + 2 + strspn((char *)head + 2, " \t");
    line[strcspn(line, "\n")] = 0;
    char *interpreter = line;
    line += strcspn(line, " \t");
    char *argument = *line ? line + 1 + strspn(line + 1, " \t") : line;
    *line = 0;
    for (size_t n = strlen(argument); n > 0 && strchr(" \t", argument[n - 1]); n--) argument[n - 1] = 0;
    if (*interpreter == 0 || !push_prefix(to, to->program)) return TARGET_FAILS;
    if (*argument && !push_prefix(to, argument)) return TARGET_FAILS;
    strcpy(to->program, interpreter);
  }
  return TARGET_FAILS;
}
