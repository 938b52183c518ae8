#!/usr/bin/env bash
# Finishing steps from one POST: train, prune to 95 %, shrink, int8, pack: at least 35 times smaller than the dense file; what was reported is what is
# downloaded; the file goes in again as it came out; and a kill among the steps changes no byte.
. "$(dirname "$0")/daemon.bash"
start --checkpoint-seconds 0.1
# sparsegpt and obs compute in double, by OpenBLAS: where it does not know the processor the daemon names kernels that fit
! grep -qw avx2 /proc/cpuinfo || ! grep -q Prescott "$log.part" || fail "products by kernels of 2004: $(grep '"products"' "$log.part")"
small_fashion
lenet
body='{"model": "'$model'", "dataset": "'$dataset'", "train": {"epochs": 1}, "prune": {"iterations": 1, "target_sparsity": 0.95, "schedule": "one_shot"},
       "retrain": {"epochs": 1}, "export": {"shrink": true, "quantize": true, "pack": true}, "controls": {"random": true, "small_dense": true}}'
expect 201 POST /v1/jobs -d "$body"
job=$(field .id)
wait_state "$job" succeeded 120
expect 200 GET "/v1/jobs/$job"
[ "$(field '[.result.finishing[].step] | join(" ")')" = "shrink recalibrate quantize pack" ] || fail "steps: $(field .result.finishing)"
[ "$(field '[.result.controls[].control] | join(" ")')" = "random small_dense" ] || fail "controls: $(field .result.controls)"
[ "$(field '.result.controls | map(.params_nonzero) | max - min < 1000')" = true ] || fail "controls: $(field '.result.controls | map(.params_nonzero)')"
[ "$(curl -fsS "$url/v1/jobs/$job/events" | jq '[.data[] | select(.type == "control")] | length')" = 2 ] || fail "no events of controls"
[ "$(field '.result.finishing[-1].times_smaller >= 35')" = true ] || fail "only $(field '.result.finishing[-1].times_smaller') times smaller"
[ "$(field '.result.finishing[0].max_relative_difference < 1e-4')" = true ] || fail "shrink: $(field '.result.finishing[0]')"
[ "$(field '[.result.layers[].kernel] | unique | join(" ")')" = int8 ] || fail "kernels: $(field '[.result.layers[].kernel]')"
[ "$(field '.result.finishing[-1].metrics == .result.chosen.validation')" = true ] || fail "the result is not what the last step left"
[ "$(field '.result.finishing[2].metric_change > -0.005')" = true ] || fail "int8 costs $(field '.result.finishing[2].metric_change')"
want=$(field '.result.finishing[-1].file.packed')

# in every format; the masked model stays what its iteration was
curl -fsS -o "$work/a.espk" "$url/v1/jobs/$job/model?format=packed"
[ "$(stat -c %s "$work/a.espk")" = "$want" ] || fail "the file has $(stat -c %s "$work/a.espk") bytes, not $want"
for format in keras safetensors document; do curl -fsS -o "$work/a.$format" "$url/v1/jobs/$job/model?format=$format" || fail "$format"; done
[ "$(jq -r '.config.layers[] | select(.config.name == "dense_1") | .config.units' "$work/a.keras")" -le 100 ] || fail "units: $(jq -c .config.layers "$work/a.keras")"
expect 200 GET "/v1/jobs/$job/iterations/1/model?format=document"
[ "$(field '.weights["dense/kernel"].shape | join("x")')" = 784x300 ] || fail "the iteration's model is not the masked one"

# out and in again
expect 201 POST /v1/models --data-binary "@$work/a.espk"
again=$(field .id)
curl -fsS -o "$work/b.safetensors" "$url/v1/models/$again/file?format=safetensors"
cmp "$work/a.safetensors" "$work/b.safetensors" || fail "the upload has other weights"
head -c 700 "$work/a.espk" >"$work/cut.espk"
expect 400 POST /v1/models --data-binary "@$work/cut.espk"

# kills among controls and steps
for wait in 0.02 0.7; do # the first among controls
  expect 201 POST /v1/jobs -d "$body"
  other=$(field .id)
  until call GET "/v1/jobs/$other" && [ "$(field .iterations)" -ge 1 ]; do sleep 0.02; done
  sleep $wait
  crash
  start --checkpoint-seconds 0.1
  wait_state "$other" succeeded 120
  [ "$(result "$other")" = "$(result "$job")" ] || { diff <(result "$job" | jq .) <(result "$other" | jq .) | head -20; fail "another result after a kill"; }
  curl -fsS "$url/v1/jobs/$other/model?format=packed" | cmp - "$work/a.espk" || fail "another file after a kill"
done
stop
