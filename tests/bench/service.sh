#!/usr/bin/env bash
# tests/bench/service.sh: what the service costs and bears, on loopback. usage: tests/bench/service.sh [STREAMS] [part ...]
# Parts, all by default: streams (a crowd of event streams beside a two-thread job: times of other requests, whose time they cost, the job's slowdown,
# memory; 3 minutes), rate (GET of a job with wrk while idle), lists (10,000 jobs: the list's times), claim (100,000 queued jobs: a claim's time),
# upload (1 GiB, beside what the disk does), stops (cancel and SIGTERM of a running job).
cd "$(dirname "$0")/../.." || exit
crowd=2000
case ${1:-} in [0-9]*) crowd=$1; shift ;; esac
parts=" ${*:-streams rate lists claim upload stops} "
set -- build/espalierd .
server/packages.sh build run
[[ $parts != *" rate "* ]] || command -v wrk >/dev/null || apt-get install -y -qq --no-install-recommends wrk >/dev/null
[[ $parts != *" lists "* ]] || command -v sqlite3 >/dev/null || apt-get install -y -qq --no-install-recommends sqlite3 >/dev/null
cmake -S . -B build >/dev/null && cmake --build build -j "$(nproc)" --target espalierd bench_streams bench_queue >/dev/null || exit
. tests/e2e/daemon.bash
ulimit -n "$(ulimit -Hn)"
is_wanted() { [[ $parts == *" $1 "* ]]; }
peak_kb() { awk '$1 == "VmHWM:" {print $2}' "/proc/$pid/status"; }
quantile() { sort -n | awk -v q="$1" '{v[NR] = $1} END {i = int(NR * q + 0.9999); print v[i < 1 ? 1 : i]}'; }
# A job that goes on, and learns next to nothing: once one knows its samples by heart, its gradients are denormal numbers, and its pace halves.
post_long() {
  expect 201 POST /v1/jobs -d "{\"model\": \"$model\", \"dataset\": \"$dataset\",
    \"train\": {\"epochs\": 20000, \"optimizer\": {\"type\": \"adam\", \"learning_rate\": 1e-9}}}"
  job=$(field .id)
}

start --workers 1 --threads 2 --max-connections 8192 --max-streams 4096 --memory-mb 4096
small_fashion
lenet

if is_wanted streams; then
  post_long
  wait_state "$job" running 20
  sleep 5
  build/tests/bench_streams "${url##*:}" "$pid" "$job" "$crowd" 6 8
  expect 202 POST "/v1/jobs/$job/cancel"
fi

if is_wanted rate; then
  post_long
  wait_state "$job" running 20
  expect 202 POST "/v1/jobs/$job/cancel"
  until call GET "/v1/jobs/$job" && [ "$(field .state)" = cancelled ]; do sleep 0.1; done
  echo "GET /v1/jobs/{id} while idle:"
  wrk -t 1 -c 16 -d 10 --latency "$url/v1/jobs/$job" | grep -E '50%|99%|Requests/sec'
fi

if is_wanted upload; then
  # 1 GiB of images of 28 x 28, as IDX: 1,369,568 of them
  { printf '\0\0\010\003\0\024\345\340\0\0\0\034\0\0\0\034'; head -c $((1369568 * 784)) /dev/zero | tr '\0' '\7'; } >"$work/big"
  expect 201 POST /v1/datasets -d '{"name": "big"}'
  big=$(field .id) before=$(peak_kb)
  disk=$( { dd if="$work/big" of="$work/copy" bs=1M conv=fsync; } 2>&1 | tail -n 1)
  rm -f "$work/copy"
  took=$(curl -sS -o "$work/answer" -w '%{time_total} %{http_code}' -T "$work/big" "$url/v1/datasets/$big/train/features")
  echo "upload of 1 GiB: ${took% *} s until it is converted and saved ($(awk -v t="${took% *}" 'BEGIN {print int(1073.7 / t)}') MB/s, status ${took#* }), memory up by $(($(peak_kb) - before)) KB; dd with fsync: $disk"
  rm -f "$work/big"
fi

if is_wanted stops; then
  post_long
  wait_state "$job" running 20
  sleep 2
  begun=$(date +%s%N)
  expect 202 POST "/v1/jobs/$job/cancel"
  until call GET "/v1/jobs/$job" && [ "$(field .state)" = cancelled ]; do :; done
  echo "cancel of a running job: stopped after $((($(date +%s%N) - begun) / 1000000)) ms"
  post_long
  wait_state "$job" running 20
  sleep 2
  begun=$(date +%s%N)
  stop
  echo "SIGTERM with a running job: ended after $((($(date +%s%N) - begun) / 1000000)) ms"
  start --workers 1 --threads 2
fi

if is_wanted lists; then
  post_long
  first=$job
  post_long # stays in the queue: it is copied 10,000 times
  stop
  sqlite3 "$data/espalier.db" "CREATE TEMP TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
    SELECT jobs.* FROM jobs, n WHERE jobs.id = '$job'; UPDATE t SET id = printf('job_%020d', rowid); INSERT INTO jobs SELECT * FROM t;"
  start --workers 1 --threads 2
  call POST "/v1/jobs/$first/cancel"
  for query in 'limit=100' 'limit=100&state=queued' 'limit=100&sort=-metric' 'limit=100&name=abc'; do
    for _ in $(seq 100); do printf 'url = "%s/v1/jobs?%s"\noutput = /dev/null\n' "$url" "$query"; done >"$work/urls"
    curl -sS -w '%{time_total}\n' -K "$work/urls" >"$work/times"
    echo "list of 10,000 jobs, $query: p50 $(quantile 0.5 <"$work/times") s, p95 $(quantile 0.95 <"$work/times") s"
  done
fi
if is_wanted claim; then build/tests/bench_queue 100000; fi
stop
