#!/usr/bin/env bash
# Tokens and tenants on a live daemon: asked for where they must be, made and revoked while it runs, nothing foreign is seen, the queue is fair, limits hold, also those of one tenant.
. "$(dirname "$0")/daemon.bash"
token() { "$espalierd" token create --data "$data" "$@" 2>/dev/null; }
# as TOKEN ...: what follows, with this token
as() { local t=$1; shift; "$@" -H "Authorization: Bearer $t"; }

# within a second, on a machine that is not busy: refused METHOD PATH ..., what the command line changed is known to the daemon
refused() {
  for _ in $(seq 50); do call "$@"; [ "$status" != 401 ] || return 0; sleep 0.1; done
  fail "$1 $2 answered $status, not 401: $reply"
}

# many N TOKEN: the statuses of so many requests on one connection
many() {
  for _ in $(seq "$1"); do printf 'url = "%s/v1/jobs"\noutput = /dev/null\n' "$url"; done |
    curl -sS -K - -D "$work/headers" -w '%{http_code}\n' -H "Authorization: Bearer $2"
}

# beyond loopback: not without a token
timeout 10 "$espalierd" --listen 0.0.0.0:0 --data "$data" >"$work/out" 2>&1 && fail "it started without a token"
grep -q 'token create' "$work/out" || fail "the refusal does not say what to do: $(cat "$work/out")"
printf '%s\n' 0123456789abcdef0123456789abcdef >"$work/secret"
ESPALIER_ADMIN_TOKEN_FILE=$work/secret timeout 1 "$espalierd" --listen 0.0.0.0:0 --data "$data" >"$work/out" 2>&1 || true
grep -q 'listening on' "$work/out" || fail "it did not start with a token by file: $(cat "$work/out")"
ESPALIER_ADMIN_TOKEN_FILE=$work/secret "$espalierd" check --data "$data" >"$work/out"
! grep -q 0123456789abcdef "$work/out" || fail "check tells the token"

# on loopback, while there is none: everybody, but no page that calls itself by another name
start
expect 200 GET /v1/jobs
expect 403 GET /v1/jobs -H 'Host: evil.example'
a=$(token --tenant team-a --scope admin --name a) b=$(token --tenant team-b) reader=$(token --tenant team-a --scope read)
[[ $a =~ ^esp_[0-9a-z]{20}_[0-9a-f]{64}$ ]] || fail "no token: $a"
refused GET /v1/jobs
grep -qi '^WWW-Authenticate: Bearer' <<<"$(curl -sS -D - -o /dev/null "$url/v1/jobs")" || fail "no WWW-Authenticate"
as "$a" expect 200 GET /v1/jobs -H 'Host: any.example'
as "$reader" expect 403 POST /v1/datasets -d '{}'
as "$b" expect 403 GET /v1/tokens
crash
start --threads 1
expect 401 GET /v1/jobs

# nothing of team-a's is there for team-b: every address with an id
things() { # TOKEN: sets model, dataset
  local t=$1
  as "$t" expect 201 POST /v1/models --data-binary "@$source/api/examples/lenet-300-100.json"
  model=$(field .id)
  as "$t" expect 201 POST /v1/datasets -d '{"name": "small"}'
  dataset=$(field .id)
  as "$t" expect 201 PUT "/v1/datasets/$dataset/train/features" -T "$images/t10k-images-idx3-ubyte.gz"
  as "$t" expect 201 PUT "/v1/datasets/$dataset/train/labels" -T "$images/t10k-labels-idx1-ubyte.gz"
}
post() { as "$1" expect 201 POST /v1/jobs -d '{"model": "'"$model"'", "dataset": "'"$dataset"'", "train": {"epochs": 500}}'; job=$(field .id); }
things "$a"
for _ in 1 2 3 4 5; do post "$a"; done
last=$job
curl -sS "$url/openapi.json" | jq -r '.paths | to_entries[] | .key as $p | select($p | test("[{](model|dataset|job)[}]")) | .value | keys[] | "\(.) \($p)"' |
  while read -r method path; do
    path=$(sed -e "s/{model}/$model/; s/{dataset}/$dataset/; s/{job}/$last/; s/{iteration}/1/; s/{split}/validation/; s/{part}/features/" <<<"$path")
    body=()
    case $method in put | post | patch) body=(-d '{"samples": [[1, 2]]}') ;; esac
    [[ ! $path =~ evaluate$ && $method != patch ]] || body=(-d '{}')
    [[ $path =~ (cancel|pause|resume|retry)$ ]] && body=()
    as "$b" expect 404 "${method^^}" "$path" "${body[@]}"
  done
for list in models datasets jobs events; do
  as "$b" expect 200 GET "/v1/$list"
  [ "$(field '.data | length')" = 0 ] || fail "team-b sees $list of team-a"
done
as "$b" expect 422 POST /v1/jobs -d '{"model": "'"$model"'", "dataset": "'"$dataset"'"}'
as "$b" expect 201 POST /v1/datasets -H 'Idempotency-Key: same' -d '{"name": "b"}'
as "$a" expect 201 POST /v1/datasets -H 'Idempotency-Key: same' -d '{"name": "a"}'
as "$a" expect 200 GET "/v1/jobs/$last"
[ "$(field .queue_position)" = 4 ] || fail "the last job is at $(field .queue_position)"

# team-b comes later, and is the next all the same; its stream tells of it alone
curl -sN -H "Authorization: Bearer $b" -H 'Accept: text/event-stream' "$url/v1/events" >"$work/stream" &
follow=$!
things "$b"
post "$b"
first=$job
as "$b" expect 200 GET "/v1/jobs/$first"
[ "$(field .queue_position)" = 1 ] || fail "team-b's first job is at $(field .queue_position)"
as "$a" expect 200 GET "/v1/jobs/$last"
[ "$(field .queue_position)" = 5 ] || fail "the last job is at $(field .queue_position)"
as "$a" expect 200 GET "/v1/jobs?state=running"
as "$a" expect 202 POST "/v1/jobs/$(field '.data[0].id')/cancel"
for _ in $(seq 100); do
  as "$b" expect 200 GET "/v1/jobs/$first"
  [ "$(field .state)" != running ] || break
  sleep 0.1
done
[ "$(field .state)" = running ] || fail "team-b's job is $(field .state)"
grep -q "$first" "$work/stream" || fail "the stream does not tell of team-b's job"
! grep -q "$last" "$work/stream" || fail "the stream tells of team-a's job"

# revoked: at once, and its stream ends
id=tok_$(cut -d_ -f2 <<<"$b")
"$espalierd" token list --data "$data" >"$work/list"
grep -q "^$id .*team-b .*valid" "$work/list" || fail "the list: $(cat "$work/list")"
! grep -q "${b:26}" "$work/list" || fail "the list tells a secret"
"$espalierd" token revoke "$id" --data "$data"
as "$b" refused GET /v1/jobs
! "$espalierd" token revoke tok_00000000000000000000 --data "$data" 2>/dev/null || fail "it revoked what is not there"
as "$a" expect 201 POST /v1/tokens -d '{"expires_days": 0.00001}'
short=$(field .token)
as "$short" expect 200 GET /v1/jobs
sleep 1
as "$short" refused GET /v1/jobs
jq -e '.detail | test("expired")' <<<"$reply" >/dev/null || fail "$reply"
many 30 esp_wrong >"$work/statuses"
[ "$(sort -u "$work/statuses" | xargs)" = "401 429" ] || fail "many wrong tokens got $(xargs <"$work/statuses")"
as "$a" expect 200 GET /v1/jobs
as "$a" expect 200 POST "/v1/jobs/$last/cancel"
for _ in $(seq 100); do kill -0 $follow 2>/dev/null || break; sleep 0.2; done
! kill -0 $follow 2>/dev/null || fail "the stream of a revoked token goes on"

# limits
stop
start --tenant-storage-mb 1 --tenant-waiting-jobs 1 --tenant-requests-per-second 1
head -c 2000000 /dev/zero >"$work/large"
as "$a" expect 507 POST /v1/models --data-binary "@$work/large"
many 50 "$a" >"$work/statuses"
[ "$(sort -u "$work/statuses" | xargs)" = "200 429" ] || fail "many requests got $(xargs <"$work/statuses")"
grep -qi '^Retry-After: [1-9]' "$work/headers" || fail "no Retry-After"
expect 200 GET /healthz

# one tenant's own, from the command line, while the daemon runs
limits() { local t=$1; shift; "$espalierd" tenant limits "$t" --data "$data" "$@" 2>"$work/err"; }
shown() { limits team-a | awk -v f="$1" '$1 == f {print $2}'; }
[ "$(shown storage_mb)" = -1 ] || fail "limits of nobody's making: $(limits team-a)"
limits team-a --storage-mb 100 --requests-per-second=0 >/dev/null || fail "limits were not taken: $(cat "$work/err")"
[ "$(shown storage_mb) $(shown requests_per_second) $(shown streams)" = "100 0 -1" ] || fail "limits are shown as $(limits team-a)"
for _ in $(seq 50); do
  as "$a" call POST /v1/models --data-binary "@$work/large"
  [ "$status" != 507 ] && [ "$status" != 429 ] || { sleep 0.1; continue; }
  break
done
[ "$status" = 422 ] || [ "$status" = 400 ] || fail "with 100 MB, 2 MB of zeros got $status: $reply"
limits team-a --waiting-jobs 7 >/dev/null
[ "$(shown storage_mb) $(shown waiting_jobs)" = "100 7" ] || fail "limits are shown as $(limits team-a)"
for bad in "team-a --storage-mb -2" "team-a --storage-mb much" "team-a --storage-mb" "Team --streams 1" "team-a --tenant-streams 1 --nonsense 1"; do
  # shellcheck disable=SC2086
  ! limits $bad >/dev/null || fail "it took: tenant limits $bad"
done
stop
cat "$log" "$work/out" >"$work/all"
for t in "$a" "$b" "$reader" "$short"; do ! grep -q "${t:26}" "$work/all" || fail "a token is in the log"; done
