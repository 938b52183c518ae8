#!/usr/bin/env bash
# Probes and metrics on their own listener: a crowd that takes every connection of the main one does not starve them; what /metrics says is what happened,
# and promtool, where it is installed, finds nothing to complain about.
. "$(dirname "$0")/daemon.bash"
start --listen-health 127.0.0.1:0 --max-connections 8
main=$url
probes=http://127.0.0.1:$(jq -r 'select(.msg == "probes and metrics on their own port") | .port' "$log.part")
for path in healthz readyz metrics; do
  expect 404 GET "/$path"
  [ "$(curl -sS -m 2 -o "$work/$path" -w '%{http_code}' "$probes/$path")" = 200 ] || fail "$probes/$path: $(cat "$work/$path")"
done
curl -fsS "$main/" | jq -e ".links | has(\"jobs\") and (has(\"healthz\") | not)" >/dev/null || fail "the links of / name what is not there"
[ "$(curl -sS -o /dev/null -w '%{http_code}' "$probes/v1/jobs")" = 404 ] || fail "the probes' listener serves more than probes"

# clients that connect and say nothing, until the main listener takes no more
port=${main##*:}
held=()
for _ in $(seq 90); do exec {fd}<>"/dev/tcp/127.0.0.1/$port" && held+=("$fd"); done
[ "$(curl -sS -m 1 -o /dev/null -w '%{http_code}' "$main/v1/capabilities" 2>/dev/null || true)" != 200 ] || fail "the main listener is not full"
for _ in 1 2 3; do curl -fsS -m 1 -o /dev/null "$probes/healthz" || fail "/healthz does not answer while the main listener is full"; done
for fd in "${held[@]}"; do exec {fd}>&-; done
for _ in $(seq 50); do [ "$(curl -sS -m 2 -o /dev/null -w '%{http_code}' "$main/v1/capabilities" 2>/dev/null || true)" != 200 ] || break; sleep 0.1; done

# a job, so that there is something to count
url=$main
small_fashion
lenet
expect 201 POST /v1/jobs -d '{"model": "'"$model"'", "dataset": "'"$dataset"'", "train": {"epochs": 1}, "prune": {"iterations": 1}, "retrain": {"epochs": 1}}'
wait_state "$(field .id)" succeeded 200
curl -fsS "$probes/metrics" >"$work/metrics"
for line in 'espalier_jobs{state="succeeded"} 1' 'espalier_job_transitions_total{to="running"} 1' 'espalier_job_queue_seconds_count 1' \
  'espalier_job_duration_seconds_count{state="succeeded"} 1' 'espalier_http_requests_total{method="POST",route="/v1/jobs",code="201"} 1' \
  'espalier_http_request_duration_seconds_count{method="POST",route="/v1/jobs"} 1' \
  "espalier_http_upload_bytes_total $(($(stat -c %s "$images/t10k-images-idx3-ubyte.gz") + $(stat -c %s "$images/t10k-labels-idx1-ubyte.gz") \
     + $(stat -c %s "$source/api/examples/lenet-300-100.json")))"; do
  grep -qxF "$line" "$work/metrics" || fail "/metrics does not say $line: $(grep "^${line%%[{ ]*}" "$work/metrics")"
done
for name in espalier_db_wal_bytes espalier_disk_free_bytes espalier_db_writes_total process_resident_memory_bytes process_open_fds process_cpu_seconds_total; do
  awk -v name=$name '$1 == name && $2 > 0 {found = 1} END {exit !found}' "$work/metrics" || fail "/metrics: $name is not above 0"
done
if command -v promtool >/dev/null; then
  promtool check metrics <"$work/metrics" || fail "promtool finds fault with /metrics"
else
  echo "promtool is not installed: not asked"
fi
stop
