#!/bin/sh
# Remakes the bundled recordings: scripts/make-recordings.sh [NAME...]      (after npm run build)
#
# Names: redis, python, sort, hash-join, largepages. Each takes up to two minutes on two cores. Everything is made anew
# here: inputs from fixed seeds, the C programs from native/programs. Installs nothing; says what is missing.
# On a busy machine run it under "chrt -f 50": the plain runs' wall time becomes part of the recordings.
set -eu
cd "$(dirname "$0")/.."
hugelab="node $PWD/dist/hugelab.mjs"
out=$PWD/recordings
# Always the same, because paths of mapped files are part of a recording.
work=${TMPDIR:-/tmp}/hugelab-recordings
mkdir "$work"
trap 'rm -rf "$work"' EXIT
port=7799

need() { # program, Debian package
  command -v "$1" >/dev/null 2>&1 && return
  echo "make-recordings: $1 is missing: install Debian's package \"$2\"" >&2
  exit 3
}
need qemu-x86_64 qemu-user
need cc gcc
need python3 python3
need redis-server redis-server
need redis-benchmark redis-tools
[ -f dist/hugelab.mjs ] || { echo "make-recordings: run npm run build first" >&2; exit 2; }
export LC_ALL=C
# Debian's own, where there are several; the interpreter itself, not a script that looks for one.
python=$(PATH=/usr/bin:$PATH python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')
cd "$work"

# A server with 150 MB of data: loads it, forks to save it while clients go on writing (copy-on-write), then serves reads.
record_redis() {
  cat >load.sh <<END
until redis-cli -p $port ping 2>&1 | grep -q PONG; do sleep 0.1; done
redis-benchmark -p $port -q -t set -n 150000 -r 120000 -d 1000 -P 16 -c 8
redis-cli -p $port bgsave
redis-benchmark -p $port -q -t set -n 40000 -r 120000 -d 1000 -P 16 -c 8
while redis-cli -p $port info persistence | grep -q rdb_bgsave_in_progress:1; do sleep 0.1; done
rm -f dump.rdb # the next run starts empty too
redis-benchmark -p $port -q -t get -n 60000 -r 120000 -P 16 -c 8
redis-cli -p $port shutdown nosave
END
  $hugelab record -o "$out/redis.hlt" --driver "sh $work/load.sh >$work/load.log 2>&1" -- \
    redis-server --port $port --bind 127.0.0.1 --save '' --rdbcompression no --disable-thp no
}

# An interpreter: builds dictionaries of lists and strings, looks up at random, drops half, builds again.
record_python() {
  cat >dictionaries.py <<'END'
import random
random.seed(7)
n = 350_000
table = {"user%d" % i: [i, str(i * 7), (i, i + 1)] for i in range(n)}
keys = list(table)
found = sum(table[keys[random.randrange(n)]][0] for _ in range(150_000))
for key in keys[::2]:
    del table[key]
index = {}
for row in table.values():
    index.setdefault(row[0] % 1000, []).append(row)
more = {i: "value %d" % i for i in range(200_000)}
print(found, len(index), len(more))
END
  $hugelab record -o "$out/python.hlt" -- "$python" dictionaries.py >/dev/null
}

# Sorts 1.2 million random lines in memory, with two threads.
record_sort() {
  python3 - >lines <<'END'
import random
random.seed(11)
letters = "abcdefghijklmnopqrstuvwxyz"
for _ in range(1_200_000):
    print("".join(random.choices(letters, k=random.randint(10, 60))))
END
  $hugelab record -o "$out/sort.hlt" -- sort --parallel=2 -S 400M -o sorted lines
}

# Poor locality: builds a 256 MB hash table and a 64 MB row store and probes them at random.
record_hash_join() {
  cc -O2 -o hash-join "$OLDPWD/native/programs/hash-join.c"
  $hugelab record -o "$out/hash-join.hlt" --sample 1 -- ./hash-join 256 3000000 >/dev/null
}

# The program of the 2011 log (rule ANON-310) over 256 MiB instead of 3 GiB.
record_largepages() {
  cc -O2 -o largepages3 "$OLDPWD/native/programs/largepages3.c"
  $hugelab record -o "$out/largepages.hlt" -- ./largepages3 256 >/dev/null
}

for name in ${*:-redis python sort hash-join largepages}; do
  case $name in
    redis) record_redis ;;
    python) record_python ;;
    sort) record_sort ;;
    hash-join) record_hash_join ;;
    largepages) record_largepages ;;
    *) echo "make-recordings: \"$name\" is none of redis python sort hash-join largepages" >&2; exit 2 ;;
  esac
done
ls -l "$out" | awk '/hlt/ { total += $5; printf "%8.2f MB  %s\n", $5 / 1e6, $9 } END { printf "%8.2f MB  together\n", total / 1e6 }'
