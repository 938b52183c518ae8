#!/usr/bin/env bash
# Every example of openapi.json against a running daemon: each operation is called, with each of its example bodies, whose ids become real ones; it answers
# with a status that the document names, and with what the document's example has: the same fields, of the same types.
. "$(dirname "$0")/daemon.bash"
doc=$source/api/openapi.json
# the administrator's token goes with every request
"$espalierd" token create --data "$data" --scope admin >"$work/token" 2>/dev/null
printf 'header = "Authorization: Bearer %s"\n' "$(cat "$work/token")" >"$work/.curlrc"
export CURL_HOME=$work
start

# ---- a small world ----
keras='{"class_name": "Sequential", "config": {"name": "net", "layers": [
  {"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [null, 2]}},
  {"class_name": "Dense", "config": {"name": "dense", "units": 3, "activation": "softmax", "use_bias": true}}]}}'
weights='{"dense/kernel": {"shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}, "dense/bias": {"shape": [3], "data": [0, 0, 0.5]}}'
{ echo a,b,label; for i in $(seq 60); do echo "$((i % 7)),$((i % 5)),$((i % 3))"; done; } >"$work/table.csv"
new_model() { expect 201 POST /v1/models -d "$keras"; model=$(field .id); }
new_dataset() { expect 201 POST /v1/datasets -d '{}'; dataset=$(field .id); }
new_token() { expect 201 POST /v1/tokens -d '{}'; token=$(field .id); }
new_job() { expect 201 POST /v1/jobs -d "{\"model\": \"$trained\", \"dataset\": \"$full\"$1}"; job=$(field .id); }
expect 201 POST /v1/models -d "{\"architecture\": $keras, \"weights\": $weights}"
trained=$(field .id)
new_dataset
full=$dataset
for split in train test; do expect 201 PUT "/v1/datasets/$full/$split/table" -T "$work/table.csv"; done
new_job ', "prune": {"iterations": 3}'
finished=$job
wait_state "$finished" succeeded 60
curl -fsS -o "$work/weights" "$url/v1/jobs/$finished/model?format=safetensors"

# What an operation needs before it can be called: sets model, dataset, job, and the arguments of curl.
prepare() { # operation
  model=$trained dataset=$full job=$finished token="" arguments=() query=""
  case $1 in
    createModel) [ -n "$body" ] || arguments=(-d "$keras") ;;
    putWeights) new_model; arguments=(-T "$work/weights") ;;
    putPart) new_dataset; arguments=(-T "$work/table.csv") ;;
    listCurves) query="?jobs=$finished" ;;
    deleteModel) new_model ;;
    getToken | revokeToken) new_token ;;
    deleteDataset) new_dataset ;;
    pauseJob | cancelJob) new_job ', "train": {"epochs": 1000000}' ;;
    resumeJob) new_job ', "train": {"epochs": 1000000}'; call POST "/v1/jobs/$job/pause" ;;
    retryJob | deleteJob) new_job ', "train": {"epochs": 1000000}'; call POST "/v1/jobs/$job/cancel"; wait_cancelled ;;
  esac
  [ -z "$body" ] || arguments=(-H 'Content-Type: application/json' -d "$body")
}
wait_cancelled() { for _ in $(seq 100); do call GET "/v1/jobs/$job"; [ "$(field .state)" != cancelled ] || return 0; sleep 0.05; done; fail "not cancelled"; }
fits='def fits($e; $r): if $e == null or $r == null then true
  elif ($e | type) == "object" then ($r | type) == "object" and all($e | to_entries[]; . as $x | ($r | has($x.key)) and fits($x.value; $r[$x.key]))
  elif ($e | type) == "array" then ($r | type) == "array" and (($e | length) == 0 or ($r | length) == 0 or fits($e[0]; $r[0]))
  else ($e | type) == ($r | type) end; fits($e; .)'

# ---- all of it: method, path, operation, a body or nothing ----
n=0
while IFS=$'\t' read -r method path operation body; do
  body=$(sed -E "s/mdl_[0-9a-z]{20}/$trained/g; s/dst_[0-9a-z]{20}/$full/g; s/job_[0-9a-z]{20}/$finished/g; s/([^\\])\\\\\\\\/\1\\\\/g" <<<"$body")
  prepare "$operation"
  where=$(sed "s/{model}/$model/; s/{dataset}/$dataset/; s/{job}/$job/; s/{token}/$token/; s/{tenant}/team-a/; s/{iteration}/1/; s/{split}/train/; s/{part}/table/" <<<"$path")
  call "$method" "$where$query" "${arguments[@]}"
  case $status in 2??) ;; *) fail "$operation: $method $where answered $status to $body: $reply" ;; esac
  example=$(jq -c --arg p "$path" --arg m "${method,,}" --arg s "$status" '.paths[$p][$m].responses[$s] | if . == null then error("undocumented") else . end
    | .content["application/json"].example // empty' "$doc") || fail "$operation: $status is not in the document"
  [ -z "$example" ] || jq -e --argjson e "$example" "$fits" <<<"$reply" >/dev/null || fail "$operation: unlike its example: $reply"
  n=$((n + 1))
  case $operation in createJob | retryJob | pauseJob | resumeJob) id=$(field '.id // empty'); [ -z "$id" ] || call POST "/v1/jobs/$id/cancel" ;; esac
done < <(jq -r '.paths | to_entries[] | .key as $path | .value | to_entries[] | .key as $method | .value | .operationId as $id
  | ([.requestBody.content["application/json"].examples // {} | .[] | .value | tojson] | if length == 0 then [""] else . end)[]
  | "\($method | ascii_upcase)\t\($path)\t\($id)\t\(.)"' "$doc")
[ $n -ge 30 ] || fail "only $n operations were called"
echo "$n calls"
stop
