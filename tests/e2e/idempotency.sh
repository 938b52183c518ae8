#!/usr/bin/env bash
# Idempotency-Key on what makes a model, a data set or a job: the first answer again, nothing made twice, after kill -9 too.
. "$(dirname "$0")/daemon.bash"
start
small_fashion
lenet
job='{"model": "'$model'", "dataset": "'$dataset'", "train": {"epochs": 500}}'
count() { curl -fsS "$url/v1/$1?limit=200" | jq '.data | length'; }
# twice RESOURCE BODY...: the answer of the second request is that of the first, header and body; a kill in between
twice() {
  local resource=$1 key="key-$1" before first
  shift
  before=$(count "$resource")
  curl -fsS -D "$work/first.h" -o "$work/first" -H "Idempotency-Key: $key" "$@" "$url/v1/$resource" || fail "$resource: the first request failed"
  curl -fsS -D "$work/again.h" -o "$work/again" -H "Idempotency-Key: $key" "$@" "$url/v1/$resource" || fail "$resource: the second request failed"
  cmp "$work/first" "$work/again" || fail "$resource: another answer: $(cat "$work/first" "$work/again")"
  [ "$(grep -i '^\(location\|HTTP\)' "$work/first.h")" = "$(grep -i '^\(location\|HTTP\)' "$work/again.h")" ] || fail "$resource: other headers"
  crash
  start
  curl -fsS -o "$work/again" -H "Idempotency-Key: $key" "$@" "$url/v1/$resource" || fail "$resource: the request after a kill failed"
  cmp "$work/first" "$work/again" || fail "$resource: another answer after a kill"
  [ "$(count "$resource")" = $((before + 1)) ] || fail "$resource: made twice"
}
twice models --data-binary "@$source/api/examples/lenet-300-100.json"
twice datasets -d '{"name": "once", "csv": {"label": "x"}}'
twice jobs -d "$job"

# spaces and the order of keys make no other request; another value does, and another address
expect 201 POST /v1/datasets -H "Idempotency-Key: key-datasets" -d '{ "csv":{"label":"x"},  "name":"once" }'
expect 422 POST /v1/datasets -H "Idempotency-Key: key-datasets" -d '{"name": "twice"}'
expect 422 POST /v1/datasets -H "Idempotency-Key: key-jobs" -d '{"name": "once"}'
expect 422 POST '/v1/models?name=x' -H "Idempotency-Key: key-models" --data-binary "@$source/api/examples/lenet-300-100.json"
# a refusal is not remembered
expect 422 POST /v1/datasets -H "Idempotency-Key: wrong" -d '{"nonsense": 1}'
expect 201 POST /v1/datasets -H "Idempotency-Key: wrong" -d '{"name": "right"}'
expect 422 POST /v1/datasets -H "Idempotency-Key: two words" -d '{}'
expect 422 POST /v1/datasets -H "Idempotency-Key: $(printf 'k%.0s' $(seq 256))" -d '{}'
# many at once under one key: one is made, the others get its answer or are told to wait
before=$(count datasets)
for _ in $(seq 20); do curl -sS -o /dev/null -w '%{http_code}\n' -H "Idempotency-Key: crowd" -d '{"name": "crowd"}' "$url/v1/datasets" & done >"$work/crowd"
wait $(jobs -p | grep -v "^$pid\$")
[ "$(count datasets)" = $((before + 1)) ] || fail "a crowd made $(($(count datasets) - before)) data sets: $(sort "$work/crowd" | uniq -c)"
[ "$(grep -cxE '201|409' "$work/crowd")" = 20 ] || fail "a crowd was answered $(sort "$work/crowd" | uniq -c)"
stop
