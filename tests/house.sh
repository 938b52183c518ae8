#!/usr/bin/env bash
# tests/house.sh: the rules of the house that a compiler does not check. usage: house.sh SOURCE_FOLDER
#   - includes point one way: core never sees server or api, server never sees api (main.c joins them); inside core along the chain
#     below; and nowhere in a circle;
#   - OpenBLAS, SQLite, libmicrohttpd, zstd, libarchive, libpng and libjpeg are each known to one file or pair (http*.c);
#   - banned calls; exit only in main.c, malloc and its kin only in core/mem.c;
#   - migrations are numbered 0001, 0002, ... without gaps, no number twice;
#   - scripts that run with pipefail do not pipe into grep -q, which ends at the match, whether the left side still writes or not;
#   - every file opens with a comment that says what it is; none grows past 700 lines.
set -u
cd "${1:?usage: house.sh SOURCE_FOLDER}" || exit 2
bad=0
complain() { [ -z "$1" ] || { echo "$1"; bad=1; }; }
files=$(ls core/*.[ch] server/*.[ch] api/*.[ch] 2>/dev/null)

# file header, one include of the project per line
includes=$(grep -HoE '^#include "[^"]+"' $files | sed -E 's/:#include "/ /; s/"$//')
complain "$(awk '
  BEGIN { split("err mem params tensor op net exec data train prune job", chain); for (i in chain) level[chain[i]] = i + 0 }
  function stem(f) { sub(/.*\//, "", f); sub(/[._].*/, "", f); return f }
  function room(f) { sub(/\/.*/, "", f); return f }
  BEGIN { rank["core"] = 1; rank["server"] = 2; rank["api"] = 3 }
  $1 == "server/main.c" { next }
  rank[room($2)] > rank[room($1)] { print $1 ": includes " $2 ": " room($1) " never knows " room($2) }
  room($1) == "core" && level[stem($1)] && level[stem($2)] > level[stem($1)] { print $1 ": includes " $2 ", which stands above it" }
' <<<"$includes")"
# headers as a graph: tsort names a circle
complain "$(grep -E '\.h .*\.h$' <<<"$includes" | tsort 2>&1 >/dev/null | sed 's/^/circle of includes: /')"

owner() { # header, pattern of the files that own it
  complain "$(grep -lE "^#include [<\"]$1" $files | grep -vE "$2" | sed "s@\$@: includes $1, which $2 owns@")"
}
owner cblas.h '^core/gemm\.c$'
owner zstd.h '^core/packed_(read|write)\.c$'
owner archive '^core/data_archive\.c$'
owner png.h '^core/image_png\.c$'
owner jpeglib.h '^core/image_jpeg\.c$'
owner f77blas.h '^core/gemm\.c$'
owner sqlite3.h '^server/db_sqlite\.c$'
owner microhttpd.h '^server/http[a-z_]*\.[ch]$'

complain "$(grep -nE '[^|]\| *grep -[a-zA-Z]*q' $(find server docker tests -name '*.sh' -o -name '*.bash') | grep -v '^tests/house.sh:' |
  sed -E 's/^([^:]*:[^:]*):.*/\1: a pipe into grep -q, where a here-string is whole/')"

complain "$(ls migrations | awk '{ if (substr($0, 1, 5) != sprintf("%04d_", NR)) print "migrations/" $0 ": number " NR " is missing, or given twice" }' | head -n 1)"

complain "$(awk '
  FNR == 1 { close(last); last = FILENAME; comment = 0; if (substr($0, 1, 2) != "/*") print FILENAME ": no comment at the top" }
  FNR == 701 { print FILENAME ": over 700 lines: is there a second idea in it?" }
  {
    gsub(/"([^"\\]|\\.)*"/, "\"\""); gsub(/\/\*.*\*\//, ""); sub(/\/\/.*/, "")
    if (comment) { if (!/\*\//) next; sub(/.*\*\//, ""); comment = 0 }
    if (/\/\*/) { sub(/\/\*.*/, ""); comment = 1 }
    at = FILENAME ":" FNR ": "
    if (/(^|[^a-zA-Z0-9_])(strcpy|strcat|strncpy|sprintf|vsprintf|gets|strtok|atoi|atol|atof|localtime|gmtime|strerror|rand|srand|system|popen|json_dumps) *\(/) print at "banned call: " $0
    if (FILENAME != "server/main.c" && /(^|[^a-zA-Z0-9_>.])_?exit *\(/) print at "only main.c ends the process: " $0
    if (FILENAME != "core/mem.c" && /(^|[^a-zA-Z0-9_>.])(malloc|calloc|realloc|free|strdup|aligned_alloc|posix_memalign) *\(/) print at "allocate through core/mem.h: " $0
  }' $files)"
exit $bad
