#!/usr/bin/env bash
# tests/arm64.sh: cross-compiles everything for arm64 and runs the unit tests under emulation (qemu-user). usage: tests/arm64.sh [ctest pattern]
# Not part of tests/run.sh: it adds arm64 as a foreign architecture to this Debian (dpkg --add-architecture) and takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$(id -u)
as_root() { if [ "$root" = 0 ]; then "$@"; else sudo "$@"; fi; }
packages="gcc-aarch64-linux-gnu qemu-user"
for p in libc6-dev libmicrohttpd-dev libjansson-dev libsqlite3-dev libopenblas-dev nettle-dev zlib1g-dev libzstd-dev libarchive-dev \
  libbz2-dev liblzma-dev libpng-dev libjpeg62-turbo-dev check; do packages="$packages $p:arm64"; done
# shellcheck disable=SC2086
if ! dpkg-query -W $packages >/dev/null 2>&1; then
  as_root dpkg --add-architecture arm64
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi
export PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig
cmake -S . -B build-arm64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc \
  -DCMAKE_CROSSCOMPILING_EMULATOR=/usr/bin/qemu-aarch64 >/dev/null
cmake --build build-arm64 -j "$(nproc)" -- --no-print-directory -s
# OpenBLAS reads registers that the emulator does not have to find out what it runs on. test_data_csv measures the memory of its process: here the emulator's.
OPENBLAS_CORETYPE=ARMV8 CK_TIMEOUT_MULTIPLIER=10 ctest --test-dir build-arm64 --output-on-failure --timeout 1200 -j "$(nproc)" \
  -R "${1:-^core/|^server/test_(store|queue|db|config)}" -E data_csv
