#!/usr/bin/env bash
# A job that is paused in mid-epoch, twice, once over a restart, ends with the bytes of one that nobody disturbed; retry; places in the queue.
. "$(dirname "$0")/daemon.bash"
start --checkpoint-seconds 1000
small_fashion
lenet
inputs='"model": "'$model'", "dataset": "'$dataset'"'
epochs=40 # long enough that a busy machine does not end it before the pause
iterations=3 retrain=3
[ $slow = 0 ] || { epochs=4 iterations=2 retrain=1; }
body="{$inputs, \"train\": {\"epochs\": $epochs}, \"prune\": {\"iterations\": $iterations}, \"retrain\": {\"epochs\": $retrain}}"
expect 201 POST /v1/jobs -d "$body"
calm=$(field .id)
wait_state "$calm" succeeded 300
expect 409 POST "/v1/jobs/$calm/pause"
expect 409 POST "/v1/jobs/$calm/retry"

expect 201 POST /v1/jobs -d "$body"
job=$(field .id)
wait_state "$job" running 20
sleep 0.3
expect 202 POST "/v1/jobs/$job/pause"
begun=$(date +%s%N)
wait_state "$job" paused 20
echo "paused after $((($(date +%s%N) - begun) / 1000000)) ms"
before=$(field .progress.fraction)
[ "$(field .progress.eta_seconds)" = null ] || fail "a paused job has an ETA"
expect 200 POST "/v1/jobs/$job/pause"
crash
start --checkpoint-seconds 1000
sleep 0.5
expect 200 GET "/v1/jobs/$job"
[ "$(field .state)" = paused ] || fail "paused, but after a restart $(field .state)"
expect 200 POST "/v1/jobs/$job/resume"
wait_state "$job" running 20
for _ in $(seq 100); do # it says nothing before its first mini-batch
  expect 200 GET "/v1/jobs/$job"
  [ "$(field '.progress.fraction == 0')" = true ] || break
  sleep 0.1
done
jq -e --argjson before "$before" '.progress.fraction >= $before' <<<"$reply" >/dev/null || fail "it began before where it was paused ($before): $(field .progress)"
expect 202 POST "/v1/jobs/$job/pause"
wait_state "$job" paused 20
expect 200 POST "/v1/jobs/$job/resume"
wait_state "$job" succeeded 300
[ "$(records "$job")" = "$(records "$calm")" ] || fail "the records differ from those of the undisturbed job"
[ "$(model_hash "$job")" = "$(model_hash "$calm")" ] || fail "the models differ"

# queued -> paused -> queued; places; retry of what was cancelled
expect 201 POST /v1/jobs -d "{$inputs, \"train\": {\"epochs\": 5000}}"
long=$(field .id)
wait_state "$long" running 20
expect 201 POST /v1/jobs -d "$body"
first=$(field .id)
expect 201 POST /v1/jobs -d "$body"
second=$(field .id)
expect 200 GET "/v1/jobs/$second"
[ "$(field .queue_position)" = 2 ] || fail "place $(field .queue_position), not 2"
expect 200 POST "/v1/jobs/$first/pause"
expect 200 GET "/v1/jobs/$second"
[ "$(field .queue_position)" = 1 ] || fail "place $(field .queue_position), not 1"
expect 202 POST "/v1/jobs/$long/cancel"
wait_state "$second" succeeded 300
expect 200 GET "/v1/jobs/$first"
[ "$(field .state)" = paused ] || fail "a paused job ran"
expect 200 POST "/v1/jobs/$first/cancel"
expect 201 POST "/v1/jobs/$first/retry"
[ "$(field .retry_of)" = "$first" ] || fail "retry_of: $reply"
again=$(field .id)
wait_state "$again" succeeded 300
[ "$(model_hash "$again")" = "$(model_hash "$calm")" ] || fail "the retried job has another model"
stop
