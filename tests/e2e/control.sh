#!/usr/bin/env bash
# Cancel takes effect within a second in the middle of an epoch; SIGTERM checkpoints, requeues and ends quickly; priorities; deletes.
. "$(dirname "$0")/daemon.bash"
limit_ms=1000
[ $slow = 0 ] || limit_ms=8000
start --checkpoint-seconds 0.2
small_fashion
lenet
inputs='"model": "'$model'", "dataset": "'$dataset'"'
long="{$inputs, \"train\": {\"epochs\": 5000}}"
short="$inputs, \"train\": {\"epochs\": 1}, \"prune\": {\"iterations\": 1}, \"retrain\": {\"epochs\": 1}"

expect 201 POST /v1/jobs -d "$long"
job=$(field .id)
wait_state "$job" running 20
sleep 0.5
# two jobs behind it: the one of higher priority goes first
expect 201 POST /v1/jobs -d "{$short, \"priority\": 1}"
low=$(field .id)
expect 201 POST /v1/jobs -d "{$short, \"priority\": 5}"
high=$(field .id)
expect 409 DELETE "/v1/jobs/$job"
expect 409 DELETE "/v1/models/$model"
expect 409 DELETE "/v1/datasets/$dataset"
begun=$(date +%s%N)
expect 202 POST "/v1/jobs/$job/cancel"
until call GET "/v1/jobs/$job" && [ "$(field .state)" = cancelled ]; do
  took=$((($(date +%s%N) - begun) / 1000000))
  [ $took -lt $limit_ms ] || fail "not cancelled after $took ms: $(field .state)"
  sleep 0.02
done
echo "cancelled after $((($(date +%s%N) - begun) / 1000000)) ms"
expect 409 POST "/v1/jobs/$job/cancel"
wait_state "$high" succeeded 200
call GET "/v1/jobs/$low"
[ "$(field .finished_at)" = null ] || fail "the job of lower priority went first"
wait_state "$low" succeeded 200

# a queued job is cancelled at once
expect 201 POST /v1/jobs -d "$long"
job=$(field .id)
wait_state "$job" running 20
expect 201 POST /v1/jobs -d "$long"
queued=$(field .id)
expect 200 POST "/v1/jobs/$queued/cancel"
[ "$(field .state)" = cancelled ] || fail "a queued job is not cancelled at once: $reply"

# SIGTERM: the running job is requeued from its checkpoint
sleep 1
begun=$(date +%s%N)
stop
took=$((($(date +%s%N) - begun) / 1000000))
[ $took -lt $((limit_ms * 10)) ] || fail "SIGTERM took $took ms"
echo "SIGTERM took $took ms"
[ "$(sqlite3 "$data/espalier.db" "SELECT state FROM jobs WHERE id = '$job'")" = queued ] || fail "the running job was not requeued"
start
wait_state "$job" running 20
expect 202 POST "/v1/jobs/$job/cancel"
wait_state "$job" cancelled 20
expect 204 DELETE "/v1/jobs/$job"
expect 404 GET "/v1/jobs/$job"
call GET '/v1/jobs?limit=200'
for j in $(field '.data[].id'); do expect 204 DELETE "/v1/jobs/$j"; done
expect 204 DELETE "/v1/models/$model"
expect 204 DELETE "/v1/datasets/$dataset"
[ -z "$(ls "$data/blobs")" ] || fail "files are left after everything was deleted: $(ls "$data/blobs")"
stop
