#!/usr/bin/env bash
# tests/run.sh: installs what the tests need, builds with warnings as errors, and runs everything through ctest.
#   tests/run.sh              the default suite (under five minutes on two cores)
#   tests/run.sh --sanitize   the same under ASan + UBSan, then TSan
#   tests/run.sh [-R regex]   further arguments go to ctest
set -euo pipefail
cd "$(dirname "$0")/.."
server/packages.sh build run test fuzz
jobs=$(nproc)

suite() { # folder, cmake options ...
  local dir=$1
  shift
  cmake -S . -B "$dir" -DESPALIER_TESTS=ON "$@" >/dev/null
  cmake --build "$dir" -j "$jobs" -- --no-print-directory -s
  ctest --test-dir "$dir" --output-on-failure --no-tests=error -j "$jobs" "${arguments[@]}"
}

sanitize=0 arguments=()
for a in "$@"; do
  if [ "$a" = --sanitize ]; then sanitize=1; else arguments+=("$a"); fi
done
if [ $sanitize = 0 ]; then
  suite build -DSANITIZE=
else
  export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
  suite build-asan -DSANITIZE=address,undefined
  export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
  suite build-tsan -DSANITIZE=thread
fi
