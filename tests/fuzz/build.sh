#!/usr/bin/env bash
# tests/fuzz/build.sh DIR: builds every tests/fuzz/fuzz_*.c with clang's libFuzzer, ASan and UBSan into DIR.
# A longer run by hand: cp -r tests/fuzz/corpus/keras /tmp/c; DIR/fuzz_keras -max_total_time=600 /tmp/c
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
dir=${1:?usage: build.sh DIR}
mkdir -p "$dir/core"
dir=$(cd "$dir" && pwd)
packages=(jansson nettle zlib libzstd openblas libpng libjpeg)
read -ra include < <(pkg-config --cflags "${packages[@]}")
read -ra libs < <(pkg-config --libs "${packages[@]}")
libs=(-l:libarchive.a -lbz2 -llzma "${libs[@]}") # static, as in CMakeLists.txt
flags=(-std=c11 -O1 -g -D_GNU_SOURCE -DESPALIER_SANITIZE -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -fno-math-errno
  -fno-trapping-math -fno-omit-frame-pointer -fno-sanitize-recover=all "-I$root" "${include[@]}")
if [ -z "$(find core tests/fuzz/build.sh -newer "$dir/core.a" -print -quit 2>/dev/null || echo all)" ]; then
  echo "core is up to date"
else
  rm -f "$dir/core.a" "$dir"/core/*.o
  (cd "$dir/core" && printf '%s\0' "$root"/core/*.c |
    xargs -0 -P "$(nproc)" -n 4 clang "${flags[@]}" -fsanitize=fuzzer-no-link,address,undefined -c)
  ar rcs "$dir/core.a" "$dir"/core/*.o
fi
# the transport's part without sockets
http=(server/http_dispatch.c server/http_path.c server/http_range.c server/http_stats.c server/histogram.c server/log.c)
for source in tests/fuzz/fuzz_*.c; do
  more=()
  [ "$source" != tests/fuzz/fuzz_http.c ] || more=("${http[@]}")
  clang "${flags[@]}" -fsanitize=fuzzer,address,undefined "$source" "${more[@]}" "$dir/core.a" "${libs[@]}" -lpthread -lm -o "$dir/$(basename "$source" .c)"
done
