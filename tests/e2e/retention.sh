#!/usr/bin/env bash
# Retention: finished jobs, and models and data sets that no job uses, go when they are older than they are to be kept; nothing else does; 0 keeps for ever.
. "$(dirname "$0")/daemon.bash"
start
small_fashion
lenet
used_model=$model used_dataset=$dataset
short='"train": {"epochs": 1}, "prune": {"iterations": 1}, "retrain": {"epochs": 1}'
expect 201 POST /v1/jobs -d "{\"model\": \"$model\", \"dataset\": \"$dataset\", $short}"
old=$(field .id)
wait_state "$old" succeeded 200
expect 201 POST /v1/jobs -d "{\"model\": \"$model\", \"dataset\": \"$dataset\", $short}"
young=$(field .id)
wait_state "$young" succeeded 200
lenet
idle=$model
expect 201 POST /v1/datasets -d '{"name": "idle"}'
idle_dataset=$(field .id)
lenet
fresh=$model
expect 201 POST /v1/datasets -H 'Idempotency-Key: old' -d '{"name": "fresh"}'
stop
# three days pass for some
then=$((($(date +%s) - 3 * 86400) * 1000))
sqlite3 "$data/espalier.db" "UPDATE jobs SET finished_ms = $then, started_ms = $then, created_ms = $then WHERE id = '$old';
  UPDATE models SET created_ms = $then WHERE id IN ('$used_model', '$idle'); UPDATE answers SET created_ms = $then;
  UPDATE datasets SET created_ms = $then WHERE id IN ('$used_dataset', '$idle_dataset')"
files=$(ls "$data/blobs" | wc -l)

gone() { for _ in $(seq 50); do call GET "$1"; [ "$status" != 404 ] || return 0; sleep 0.1; done; fail "$1 is still there"; }
start --keep-jobs-days 4 --keep-uploads-days 4
sleep 0.5
expect 200 GET "/v1/jobs/$old"
expect 200 GET "/v1/models/$idle"
stop
start --keep-jobs-days 2
gone "/v1/jobs/$old"
expect 200 GET "/v1/jobs/$young"
expect 200 GET "/v1/models/$idle"
stop
start --keep-uploads-days 2
gone "/v1/models/$idle"
gone "/v1/datasets/$idle_dataset"
for path in "models/$used_model" "models/$fresh" "datasets/$used_dataset" "jobs/$young"; do expect 200 GET "/v1/$path"; done
[ "$(ls "$data/blobs" | wc -l)" -lt "$files" ] || fail "no file has gone"
[ "$(sqlite3 "$data/espalier.db" 'SELECT count(*) FROM answers')" = 0 ] || fail "an answer of three days ago is remembered"
# each round empties the write-ahead log
curl -fsS "$url/metrics" >"$work/metrics"
grep -q '^espalier_db_wal_bytes ' "$work/metrics" || fail "/metrics does not say the size of the log"
stop
