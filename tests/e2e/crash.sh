#!/usr/bin/env bash
# kill -9 at many random moments of a real job: nothing that the client was told is lost, and the job ends with the same bytes
# as an undisturbed run. Also: whatever was acknowledged (an upload, a job, an iteration) is there after the kill.
. "$(dirname "$0")/daemon.bash"
kills=20 epochs=10 iterations=8 retrain=3
[ $slow = 0 ] || { kills=3 epochs=1 iterations=2 retrain=1; }
RANDOM=${SEED:-1}

start --checkpoint-seconds 0.1
small_fashion
lenet
body='{"model": "'$model'", "dataset": "'$dataset'", "seed": 7, "train": {"epochs": '$epochs'},
       "prune": {"iterations": '$iterations', "target_sparsity": 0.9}, "retrain": {"epochs": '$retrain'}}'
expect 201 POST /v1/jobs -d "$body"
undisturbed=$(field .id)
begun=$(date +%s%N)
wait_state "$undisturbed" succeeded 300
took_ms=$((($(date +%s%N) - begun) / 1000000))
want_records=$(records "$undisturbed") want_hash=$(model_hash "$undisturbed") want_result=$(result "$undisturbed")

expect 201 POST /v1/jobs -d "$body"
job=$(field .id)
seen=0
for ((k = 1; k <= kills; k++)); do
  # gaps that spread the kills over the job (its work between two kills is less than the gap), some right after the start
  sleep "$(awk -v ms=$((RANDOM % (took_ms / kills + 50))) 'BEGIN {print ms / 1000}')"
  [ "$(curl -fsS "$url/v1/jobs/$job" | jq -r .state)" != succeeded ] || { kills=$((k - 1)); break; }
  n=$(published "$job")
  [ "$n" -ge "$seen" ] || fail "kill $k: $seen iterations were published, $n are left"
  seen=$n
  crash
  start --checkpoint-seconds 0.1
  n=$(published "$job")
  [ "$n" -ge "$seen" ] || fail "kill $k: $seen iterations were published, $n are left"
  call GET "/v1/jobs/$job"
  case $(field .state) in queued | running | succeeded) ;; *) fail "kill $k: state $(field .state): $(field .error)" ;; esac
done
wait_state "$job" succeeded 300
[ "$(records "$job")" = "$want_records" ] ||
  { diff <(jq . <<<"$want_records") <(records "$job" | jq .) | head -20; fail "other iterations than the undisturbed run's"; }
[ "$(model_hash "$job")" = "$want_hash" ] || fail "another model than the undisturbed run's"
[ "$(result "$job")" = "$want_result" ] || fail "another result than the undisturbed run's"
[ "$kills" -ge 2 ] || fail "the job was over after $kills kills: too fast for this test"
echo "$kills kills, $(curl -fsS "$url/v1/jobs/$job" | jq .attempt) attempts: the same bytes"

# what was acknowledged right before a kill
for k in 1 2 3; do
  lenet
  expect 201 POST /v1/datasets -d '{"name": "late"}'
  dataset=$(field .id)
  expect 201 PUT "/v1/datasets/$dataset/train/labels" -T "$images/t10k-labels-idx1-ubyte.gz"
  crash
  start
  expect 200 GET "/v1/models/$model"
  expect 200 GET "/v1/models/$model/file?format=keras"
  expect 200 GET "/v1/datasets/$dataset"
  [ "$(field '.splits.train.labels.samples')" = 10000 ] || fail "the labels are gone: $reply"
done
# an upload that a kill breaks off leaves nothing
curl -sS -T "$images/train-images-idx3-ubyte.gz" --limit-rate 2M "$url/v1/datasets/$dataset/train/features" >/dev/null 2>&1 &
upload=$!
sleep 0.7
crash
wait $upload 2>/dev/null || true
start
[ -z "$(find "$data" -name '*.tmp')" ] && [ -z "$(ls "$data/tmp" 2>/dev/null)" ] || fail "temporary files are left: $(find "$data" -name '*.tmp'; ls "$data/tmp")"
[ "$(sqlite3 "$data/espalier.db" 'PRAGMA integrity_check')" = ok ] || fail "the database is damaged"
stop
