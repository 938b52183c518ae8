#!/usr/bin/env bash
# Following jobs: event streams with their numbers, replay after kill -9, a client that does not read, the cap, the goodbye; requests that wait.
. "$(dirname "$0")/daemon.bash"
sse=(-sN --max-time 300 -H 'Accept: text/event-stream')
ids() { sed -n 's/^id: //p' "$1" | tr '\n' ' '; }
count() { seq -s ' ' 1 "$1" | sed 's/$/ /'; }
start --checkpoint-seconds 0.2 --max-streams 8
small_fashion
lenet
inputs='"model": "'$model'", "dataset": "'$dataset'"'
body="{$inputs, \"train\": {\"epochs\": 1}, \"prune\": {\"iterations\": 3}, \"retrain\": {\"epochs\": 1}}"
long="{$inputs, \"train\": {\"epochs\": 5000}}"

# a job from its first event to its last; the list says the same
curl "${sse[@]}" "$url/v1/events" >"$work/all" &
expect 201 POST /v1/jobs -d "$body"
job=$(field .id)
curl "${sse[@]}" "$url/v1/jobs/$job/events" >"$work/one"
expect 200 GET "/v1/jobs/$job/events?limit=200"
n=$(field '.data | length')
[ "$(ids "$work/one")" = "$(count "$n")" ] || fail "the ids of the stream: $(ids "$work/one")"
grep -q '^retry: ' <<<"$(head -n 1 "$work/one")" || fail "no retry: $(head -n 1 "$work/one")"
[ "$(grep -c '^event: iteration' "$work/one")" = 3 ] || fail "not three iterations in the stream"
[ "$(grep -A2 '^id: ' "$work/one" | sed -n 's/^data: //p' | jq -cS .)" = "$(field '.data[]' | jq -cS .)" ] || fail "stream and list differ"
grep -A1 '^event: progress' "$work/one" >"$work/progress" || true # by way of a file: a pipe's end that stops reading early would fail the test
grep -q '"fraction":[0-9]' "$work/progress" || fail "no progress: $(head -c 2000 "$work/one")"
[ "$(tail -n 2 "$work/one" | sed -n 's/^data: //p' | jq -r .data.state)" = succeeded ] || fail "the stream did not end with the job"

# it goes on behind Last-Event-ID; with nothing behind it, 204 keeps browsers from coming back
curl "${sse[@]}" -H 'Last-Event-ID: 4' "$url/v1/jobs/$job/events" >"$work/rest"
[ "4 $(ids "$work/rest")" = "$(seq -s ' ' 4 "$n") " ] || fail "behind 4: $(ids "$work/rest")"
expect 204 GET "/v1/jobs/$job/events" -H 'Accept: text/event-stream' -H "Last-Event-ID: $n"
expect 422 GET "/v1/jobs/$job/events" -H 'Accept: text/event-stream' -H 'Last-Event-ID: x'

# long poll: each iteration wakes the request
expect 201 POST /v1/jobs -d "{$inputs, \"train\": {\"epochs\": 2}, \"prune\": {\"iterations\": 4}, \"retrain\": {\"epochs\": 2}}"
job=$(field .id)
best=100000
for i in 1 2 3 4; do
  until call GET "/v1/jobs/$job?wait=60" && now=$(date +%s%3N) && [ "$(field .iterations)" -ge "$i" ]; do :; done
  at=$(sqlite3 "file:$data/espalier.db?mode=ro" "SELECT created_ms FROM events WHERE job = '$job' AND type = 'iteration' ORDER BY seq LIMIT 1 OFFSET $((i - 1))")
  [ $((now - at)) -ge $best ] || best=$((now - at))
done
echo "a waiting request is answered $best ms after the iteration, two processes included"
[ $best -le 5000 ] || fail "no waiting request was answered before $best ms after the iteration" # unwoken it waits 60 s
wait_state "$job" succeeded 60
etag=$(curl -fsSI "$url/v1/jobs/$job" | tr -d '\r' | sed -n 's/^ETag: //p')
[ -n "$etag" ] || fail "no ETag"
expect 304 GET "/v1/jobs/$job" -H "If-None-Match: $etag"

# nothing changes: the time is over
expect 201 POST /v1/jobs -d "$long"
job=$(field .id)
wait_state "$job" running 20
begun=$(date +%s%N)
expect 200 GET "/v1/jobs/$job?wait=1"
took=$((($(date +%s%N) - begun) / 1000000))
[ $took -ge 900 ] && [ $took -le 4000 ] || fail "wait=1 took $took ms"
expect 422 GET "/v1/jobs/$job?wait=61"
# 503 in time: eight streams at most (one is open already)
for i in 1 2 3 4 5 6 7; do curl "${sse[@]}" "$url/v1/jobs/$job/events" >/dev/null & done
for _ in $(seq 100); do
  call GET "/v1/jobs/$job/events" --max-time 0.3 -H 'Accept: text/event-stream'
  [ "$status" != 503 ] || break
done
[ "$status" = 503 ] || fail "a ninth stream was taken: $status"

# kill -9 and a new start: a stream goes on behind what it has
curl "${sse[@]}" "$url/v1/jobs/$job/events" >/dev/null 2>&1 || true
crash
before=$(ids "$work/all")
start --checkpoint-seconds 0.2
curl "${sse[@]}" -H "Last-Event-ID: $(awk '{ print $NF }' <<<"$before")" "$url/v1/events" >"$work/more" &
wait_state "$job" running 20
sleep 0.5
stop
for _ in $(seq 50); do ! grep -q '^event: shutdown' "$work/more" || break; sleep 0.1; done
grep -q '^event: shutdown' <<<"$(tail -n 3 "$work/more")" || fail "no goodbye: $(tail -n 3 "$work/more")"
[ "$(ids "$work/all")$(ids "$work/more")" = "$(count "$(sqlite3 "$data/espalier.db" 'SELECT value FROM counters')")" ] ||
  fail "positions before and after the crash: $(ids "$work/all")| $(ids "$work/more")"
grep -q '"reason":"recovered"' "$work/more" || fail "the recovery is not in the stream"
grep -q '"reason":"released"' "$work/more" || fail "the release at the stop is not in the stream"
