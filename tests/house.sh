#!/usr/bin/env bash
# tests/house.sh: the rules of the house that a compiler does not check. usage: house.sh SOURCE_FOLDER
#   - includes point one way: core never sees server or api, server never sees api; inside core by the levels below;
#   - OpenBLAS, SQLite and libmicrohttpd are each known to one file (http*.c for the last);
#   - banned calls; exit only in main.c, malloc and its kin only in core/mem.c;
#   - every file opens with a comment that says what it is; none grows past 700 lines.
set -u
cd "${1:?usage: house.sh SOURCE_FOLDER}" || exit 2
bad=0
complain() { echo "$1"; bad=1; }
code() { sed -E 's@/\*.*\*/@@; s@//.*@@; s@"([^"\\]|\\.)*"@""@g' "$1" | awk '/\/\*/{c=1} !c{print FNR": "$0} /\*\//{c=0}'; }

# Levels of core: a file may include headers of its own level or below.
level() {
  case ${1##*/} in
    err.* | mem.*) echo 0 ;;
    params.* | file.* | rng.* | tensor.* | team.* | gemm.* | simd.*) echo 1 ;;
    op.* | op_*) echo 2 ;;
    safetensors.* | jsonguard.* | net.*) echo 3 ;;
    exec.* | loss.* | data*) echo 4 ;;
    model* | keras* | document* | metrics* | evaluate* | optim* | lr.*) echo 5 ;;
    train.* | prune.* | crit_* | schedules.*) echo 6 ;;
    job* | measure.* | report.*) echo 7 ;;
    *) echo "-1" ;;
  esac
}
for f in core/*.[ch]; do
  mine=$(level "$f")
  [ "$mine" -ge 0 ] || complain "$f: has no level in tests/house.sh: give it one"
  for h in $(sed -nE 's@^#include "([^"]+)".*@\1@p' "$f"); do
    case $h in
      core/*) [ "$(level "$h")" -le "$mine" ] || complain "$f: includes $h, which stands above it" ;;
      *) complain "$f: core includes $h" ;;
    esac
  done
done
for f in server/*.[ch]; do
  [ "$f" = server/main.c ] && continue
  grep -nE '^#include "api/' "$f" && complain "$f: server includes api"
done
owners() { # header, allowed pattern
  grep -lE "^#include [<\"]$1" core/*.[ch] server/*.[ch] api/*.[ch] | grep -vE "$2" | while read -r f; do echo "$f: includes $1, which $2 owns"; done
}
out=$(owners cblas.h '^core/gemm\.c$'; owners sqlite3.h '^server/db_sqlite\.c$'; owners microhttpd.h '^server/http[a-z_]*\.[ch]$')
[ -z "$out" ] || complain "$out"

for f in core/*.[ch] server/*.[ch] api/*.[ch]; do
  head -c 2 "$f" | grep -q '/\*' || complain "$f: no comment at the top"
  n=$(wc -l <"$f")
  [ "$n" -le 700 ] || complain "$f: $n lines: is there a second idea in it?"
  banned='\b(strcpy|strcat|strncpy|sprintf|vsprintf|gets|strtok|atoi|atol|atof|localtime|gmtime|strerror|rand|srand|system|popen)[[:space:]]*\('
  hits=$(code "$f" | grep -E "$banned")
  [ -z "$hits" ] || complain "$f: banned call: $hits"
  if [ "$f" != server/main.c ]; then
    hits=$(code "$f" | grep -E '\b(exit|_exit)[[:space:]]*\(')
    [ -z "$hits" ] || complain "$f: only main.c ends the process: $hits"
  fi
  if [ "$f" != core/mem.c ]; then
    hits=$(code "$f" | grep -E '\b(malloc|calloc|realloc|free|strdup|aligned_alloc|posix_memalign)[[:space:]]*\(')
    [ -z "$hits" ] || complain "$f: allocate through core/mem.h: $hits"
  fi
done
exit $bad
