#!/usr/bin/env bash
# tests/fuzz/short.sh DIR: builds the fuzzers in DIR and runs each for some seconds from a copy of its corpus, with a fixed seed.
# Part of the tests: it finds what a change broke at once; for news, let them run longer (see build.sh).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?usage: short.sh DIR}
"$here/build.sh" "$dir"
for fuzzer in "$dir"/fuzz_*; do
  name=$(basename "$fuzzer" | sed 's/^fuzz_//')
  [ -f "$here/fuzz_$name.c" ] || continue
  rm -rf "$dir/corpus/$name"
  mkdir -p "$dir/corpus/$name"
  [ ! -d "$here/corpus/$name" ] || cp -r "$here/corpus/$name/." "$dir/corpus/$name"
  if ! "$fuzzer" -seed=1 -max_total_time=3 -timeout=10 -rss_limit_mb=1024 -artifact_prefix="$dir/" -verbosity=1 "$dir/corpus/$name" \
    >"$dir/$name.log" 2>&1; then
    tail -60 "$dir/$name.log"
    echo "fuzz_$name failed; the input lies in $dir" >&2
    exit 1
  fi
  echo "$name: $(tail -1 "$dir/$name.log")"
done
