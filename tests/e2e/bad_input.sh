#!/usr/bin/env bash
# What bad input gets, as a client sees it: a 4xx problem that says what and where; nothing stays, and the daemon lives.
. "$(dirname "$0")/daemon.bash"
start --max-upload-mb 8
json() { expect_problem "$1" "$2" "$3" "$4" -H 'Content-Type: application/json' -d "$5"; }

# ---- ids, paths, methods ----
expect_problem 404 "" GET /v1/jobs/job_00000000000000000000
expect_problem 404 "" GET /v1/models/nonsense
expect_problem 404 "" GET /v1/nowhere
expect_problem 404 "" GET '/v1/models/../../etc/passwd'
expect_problem 405 "" PATCH /v1/jobs
expect_problem 422 "" GET '/v1/jobs?limit=0'
expect_problem 422 "" GET '/v1/jobs?colour=red'

# ---- JSON ----
json 400 "" POST /v1/jobs '{"a": }'
json 413 "" POST /v1/jobs "$(printf '[%.0s' $(seq 100))"
json 400 "" POST /v1/jobs '{"seed": 1, "seed": 2}'
{ printf '{"name": "'; head -c 300000 /dev/zero | tr '\0' x; printf '"}'; } >"$work/long.json"
expect_problem 413 "" POST /v1/jobs -H 'Content-Type: application/json' --data-binary "@$work/long.json"
json 422 /colour POST /v1/datasets '{"colour": "red"}'
json 422 /name POST /v1/datasets '{"name": 5}'
expect 201 POST /v1/datasets -d '{"name": "d"}'
dataset=$(field .id)
lenet
json 422 /model POST /v1/jobs '{"model": "mdl_00000000000000000000", "dataset": "'$dataset'"}'
json 422 /dataset POST /v1/jobs '{"model": "'$model'"}'

# ---- models ----
json 422 "" POST /v1/models '{"class_name": "Sequential", "config": {"name": "s", "layers": [
  {"class_name": "InputLayer", "config": {"batch_input_shape": [null, 8], "name": "i"}}, {"class_name": "LSTM", "config": {"name": "memory", "units": 4}}]}}'
grep -q LSTM <<<"$reply" || fail "the layer is not named: $reply"
[ "$(field '.errors[0].pointer')" = /config/layers/1/class_name ] || [ "$(field '.errors[0].pointer')" = /config/layers/1 ] || fail "where? $reply"
json 400 "" POST /v1/models 'not json'
head -c 9000000 /dev/zero >"$work/large"
expect_problem 413 "" POST /v1/models --data-binary "@$work/large"
head -c 100 /dev/urandom >"$work/junk"
expect_problem 400 "" PUT "/v1/models/$model/weights" -T "$work/junk"

# ---- data ----
expect_problem 400 "" PUT "/v1/datasets/$dataset/train/features" -T "$work/junk"
gzip -dc "$images/t10k-labels-idx1-ubyte.gz" | head -c 5000 >"$work/short.idx"
expect_problem 400 "" PUT "/v1/datasets/$dataset/train/labels" -T "$work/short.idx"
head -c 3000 "$images/t10k-labels-idx1-ubyte.gz" >"$work/short.gz"
expect_problem 400 "" PUT "/v1/datasets/$dataset/train/labels" -T "$work/short.gz"
expect_problem 404 "" PUT "/v1/datasets/$dataset/train/pictures" -T "$work/short.gz"
printf 'a,b,label\n1,2,x\n3,nan,y\n' >"$work/nan.csv"
expect_problem 422 "" PUT "/v1/datasets/$dataset/train/table" -T "$work/nan.csv"
grep -q 'line 3' <<<"$reply" || fail "the line is not named: $reply"
# counts that disagree: the data set says so and no job is taken
expect 201 PUT "/v1/datasets/$dataset/train/labels" -T "$images/train-labels-idx1-ubyte.gz"
expect 201 PUT "/v1/datasets/$dataset/train/features" -T "$images/t10k-images-idx3-ubyte.gz"
expect 409 PUT "/v1/datasets/$dataset/train/features" -T "$images/t10k-images-idx3-ubyte.gz"
expect 200 GET "/v1/datasets/$dataset"
[ "$(field .ready)" = false ] && [ "$(field '.problems | length')" -ge 1 ] || fail "counts disagree, but: $reply"
call POST /v1/jobs -d '{"model": "'$model'", "dataset": "'$dataset'"}'
[ "$status" = 409 ] || [ "$status" = 422 ] || fail "a job on a broken data set: $status $reply"
small_fashion
inputs='"model": "'$model'", "dataset": "'$dataset'"'
json 422 /prune/target_sparsity POST /v1/jobs "{$inputs, \"prune\": {\"target_sparsity\": 1.5}}"
json 422 /prune/layers/0/layer POST /v1/jobs "{$inputs, \"prune\": {\"layers\": [{\"layer\": \"nothing*\", \"ignore\": true}]}}"
json 422 /prune/criterion POST /v1/jobs "{$inputs, \"prune\": {\"criterion\": \"astrology\"}}"
json 422 /train/optimizer/speed POST /v1/jobs "{$inputs, \"train\": {\"optimizer\": {\"type\": \"adam\", \"speed\": 1}}}"
# a model whose input does not fit the data
expect 201 POST /v1/models -d '{"class_name": "Sequential", "config": {"name": "s", "layers": [
  {"class_name": "InputLayer", "config": {"batch_input_shape": [null, 100], "name": "i"}},
  {"class_name": "Dense", "config": {"name": "dense", "units": 10, "activation": "softmax", "use_bias": true}}]}}'
json 422 "" POST /v1/jobs "{\"model\": \"$(field .id)\", \"dataset\": \"$dataset\"}"

# ---- bodies that lie or break off ----
trap "" PIPE # the server may close before all is said
exec 3<>"/dev/tcp/127.0.0.1/${url##*:}"
printf 'PUT /v1/datasets/%s/test/labels HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nhalf' "$dataset" >&3
sleep 0.2
exec 3>&-
exec 3<>"/dev/tcp/127.0.0.1/${url##*:}"
printf 'POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3 2>/dev/null || true
grep -q ' 400 ' <<<"$(head -n 1 <&3)" || fail "a smuggling probe was not refused"
exec 3>&-
sleep 0.5
[ -z "$(find "$data/tmp" -type f)" ] || fail "temporary files are left: $(find "$data/tmp" -type f)"
expect 200 GET /healthz
call GET '/v1/jobs?limit=5'
[ "$(field '.data | length')" = 0 ] || fail "a refused job stayed: $reply"
stop
