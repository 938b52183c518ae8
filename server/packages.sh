#!/usr/bin/env bash
# server/packages.sh: installs what is missing from Debian's packages. usage: packages.sh build|run|test|fuzz ...
# Sourced by nobody, called by quickstart.sh, tests/run.sh and the Dockerfile: the one list of packages.
set -euo pipefail
build="gcc libc6-dev make cmake pkg-config libmicrohttpd-dev libjansson-dev libsqlite3-dev libopenblas-dev nettle-dev zlib1g-dev libzstd-dev \
libarchive-dev libbz2-dev liblzma-dev libpng-dev libjpeg62-turbo-dev"
run="curl jq ca-certificates dataset-fashion-mnist"
test="check git procps sqlite3"
fuzz="clang libclang-rt-14-dev"
want=""
for group in "$@"; do
  case $group in build | run | test | fuzz) want="$want ${!group}" ;; *) echo "usage: packages.sh build|run|test|fuzz ..." >&2; exit 2 ;; esac
done
missing=""
for package in $want; do
  grep -q 'install ok installed' <<<"$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
sudo=""
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "missing packages:$missing: run as root: apt-get install$missing" >&2; exit 1; }
  sudo=sudo
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086
{ $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1 \
  || { tail -20 "$log" >&2; echo "could not install:$missing" >&2; exit 1; }
