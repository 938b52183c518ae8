#!/usr/bin/env bash
# A full disk: uploads are answered 507 and leave nothing, the daemon lives and works again when there is room; a running job is not lost.
# Needs root for a small tmpfs; skipped without.
. "$(dirname "$0")/daemon.bash"
mkdir -p "$data"
mount -t tmpfs -o size=24m tmpfs "$data" 2>/dev/null || { echo "skipped: cannot mount a small tmpfs"; exit 0; }
trap 'finish_status=$?; umount -l "$data"; (exit $finish_status); finish' EXIT
fill() { head -c $((30 * 1024 * 1024)) /dev/zero >"$data/ballast" 2>/dev/null || true; }
start --disk-floor-mb 0
expect 201 POST /v1/datasets -d '{"name": "too large"}'
dataset=$(field .id)
for _ in 1 2 3; do
  expect_problem 507 "" PUT "/v1/datasets/$dataset/train/features" -T "$images/train-images-idx3-ubyte.gz"
  [ -z "$(find "$data/tmp" "$data/blobs" -type f)" ] || fail "something stayed: $(find "$data/tmp" "$data/blobs" -type f)"
done
fill
expect_problem 507 "" POST /v1/models --data-binary "@$source/api/examples/lenet-300-100.json"
expect 200 GET /healthz
rm "$data/ballast"
lenet
expect 201 PUT "/v1/datasets/$dataset/train/labels" -T "$images/t10k-labels-idx1-ubyte.gz"
expect 201 PUT "/v1/datasets/$dataset/train/features" -T "$images/t10k-images-idx3-ubyte.gz"
# a job whose files do not fit any more waits, and ends when there is room again
expect 201 POST /v1/jobs -d '{"model": "'$model'", "dataset": "'$dataset'", "train": {"epochs": 2}, "prune": {"iterations": 2}, "retrain": {"epochs": 1}}'
job=$(field .id)
fill
sleep 4
call GET "/v1/jobs/$job"
case $(field .state) in queued | running | succeeded) ;; *) fail "the job is $(field .state): $(field .error)" ;; esac
rm "$data/ballast"
wait_state "$job" succeeded 200
[ "$(sqlite3 "$data/espalier.db" 'PRAGMA integrity_check')" = ok ] || fail "the database is damaged"
stop
