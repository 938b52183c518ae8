#!/usr/bin/env bash
# tests/fuzz/build.sh DIR: builds every tests/fuzz/fuzz_*.c with clang's libFuzzer, ASan and UBSan into DIR.
# A longer run by hand: cp -r tests/fuzz/corpus/keras /tmp/c; DIR/fuzz_keras -max_total_time=600 /tmp/c
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${1:?usage: build.sh DIR}
cc=${CLANG:-clang}
mkdir -p "$dir/core"
packages="jansson nettle zlib yajl openblas"
flags="-std=c11 -O1 -g -D_GNU_SOURCE -DESPALIER_VERSION=\"fuzz\" -DESPALIER_SANITIZE -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
  -fno-math-errno -fno-trapping-math -fno-omit-frame-pointer -fno-sanitize-recover=all -I. $(pkg-config --cflags $packages)"
# shellcheck disable=SC2086
compile() { # source: an object, unless there is a newer one
  local object
  object=$dir/core/$(basename "$1" .c).o
  [ "$object" -nt "$1" ] && [ -z "$(find core -name '*.h' -newer "$object" -print -quit)" ] && return
  "$cc" $flags -fsanitize=fuzzer-no-link,address,undefined -c "$1" -o "$object"
}
export -f compile
export cc dir flags
printf '%s\n' core/*.c | xargs -P "$(nproc)" -I{} bash -c 'set -eu; compile {}'
rm -f "$dir/core.a"
objects=()
for source in core/*.c; do objects+=("$dir/core/$(basename "$source" .c).o"); done
ar rcs "$dir/core.a" "${objects[@]}"
for source in tests/fuzz/fuzz_*.c; do
  # shellcheck disable=SC2086,SC2046
  "$cc" $flags -fsanitize=fuzzer,address,undefined "$source" "$dir/core.a" $(pkg-config --libs $packages) -lpthread -lm \
    -o "$dir/$(basename "$source" .c)"
done
