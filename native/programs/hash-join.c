/*
 * A program with poor locality: joins two tables through a hash table much larger than any cache.
 *
 *     hash-join [MIB] [PROBES]      table size (default 256) and look-ups (default 4 million)
 *
 * Builds an open-addressing table at half load, then looks keys up in random order, half of them absent, and follows
 * each match into a row store laid out in yet another order. Prints a checksum, the same for the same arguments.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct slot {
  uint64_t key; /* 0: free */
  uint64_t row;
};

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint64_t next_random(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static uint64_t mix(uint64_t key) {
  key = (key ^ (key >> 31)) * 0xbf58476d1ce4e5b9u;
  return key ^ (key >> 29);
}

static struct slot *find(struct slot *table, uint64_t mask, uint64_t key) {
  uint64_t at = mix(key) & mask;
  while (table[at].key != 0 && table[at].key != key) at = (at + 1) & mask;
  return &table[at];
}

int main(int argc, char **argv) {
  uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 256;
  uint64_t probes = argc > 2 ? strtoull(argv[2], NULL, 10) : 4000000;
  uint64_t slots = 1;
  while (slots * 2 * sizeof(struct slot) <= mib << 20) slots *= 2;
  uint64_t rows = slots / 2;
  struct slot *table = calloc(slots, sizeof *table);
  uint64_t *store = malloc(rows * sizeof *store);
  if (mib == 0 || !table || !store) {
    fprintf(stderr, "usage: hash-join [MIB] [PROBES]\n");
    return 2;
  }
  for (uint64_t i = 0; i < rows; i++) store[i] = next_random();
  for (uint64_t i = 0; i < rows; i++) {
    struct slot *s = find(table, slots - 1, i * 2 + 1);
    s->key = i * 2 + 1;
    s->row = mix(i) % rows;
  }
  uint64_t sum = 0;
  for (uint64_t i = 0; i < probes; i++) {
    struct slot *s = find(table, slots - 1, next_random() % (rows * 4) + 1);
    if (s->key) sum += store[s->row];
  }
  printf("%llu slots, %llu rows, checksum %016llx\n", (unsigned long long)slots, (unsigned long long)rows,
         (unsigned long long)sum);
  free(table);
  free(store);
  return 0;
}
