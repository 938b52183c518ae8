#!/usr/bin/env bash
# Clients that mean no good, on raw sockets: two requests in one, lengths that lie, paths that climb, JSON and gzip that swell, text that wants to be a header
# or a line of the log, odd ranges and event ids, a crowd from one address. Each gets its 4xx, or is cut off; nothing is served that was not asked for,
# nothing stays, memory stays where it was, every line of the log is JSON.
. "$(dirname "$0")/daemon.bash"
start --max-upload-mb 64 --max-connections-per-address 12
port=${url##*:}
trap "" PIPE
# raw BYTES: the statuses of all answers until the server closes or a second passes without news, in statuses.
raw() {
  local fd line
  exec {fd}<>"/dev/tcp/127.0.0.1/$port"
  printf "$1" >&"$fd" 2>/dev/null || true
  : >"$work/answer"
  while IFS= read -r -t 0.4 -u "$fd" line || [ -n "$line" ]; do printf '%s\n' "$line" >>"$work/answer"; line=""; done 2>/dev/null
  exec {fd}>&-
  statuses=$(sed -nE 's/^HTTP\/1\.1 ([0-9]+).*/\1/p' "$work/answer" | tr '\n' ' ')
}
# refused STATUSES BYTES
# (libmicrohttpd answers some lengths twice on one connection, which it then closes.)
refused() {
  raw "$2"
  [ -n "$statuses" ] || fail "no answer to: $2"
  for s in $statuses; do [[ " $1 " == *" $s "* ]] || fail "answered \"$statuses\", not $1: $2"; done
}

# ---- two requests in one (service: what libmicrohttpd takes) ----
next='GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n'
for head in 'Content-Length: 4\r\nTransfer-Encoding: chunked' 'Transfer-Encoding: chunked\r\nContent-Length: 4' 'Content-Length: 2\r\nContent-Length: 60' \
  'Transfer-Encoding: gzip, chunked' 'Transfer-Encoding: foo' 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked' 'Content-Length : 2' 'Content-Length: +2' \
  'Content-Length: 0x2' 'Content-Length: 2, 2'; do
  refused 400 "POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\n$head\r\n\r\n0\r\n\r\n$next"
done
refused 400 "GET /v1/models HTTP/1.1\r\n\r\n$next"
refused 400 "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n$next"
refused 400 "GET http://evil/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
# a body that is longer than it says: the rest is no request
raw "POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}smuggled: yes\r\n\r\n"
[[ $statuses == 201* ]] && ! grep -q '200' <<<"$statuses" || fail "a body longer than its length: $statuses"
# one that is shorter: nothing is made
before=$(curl -fsS "$url/v1/datasets" | jq '.data | length')
exec {fd}<>"/dev/tcp/127.0.0.1/$port"
printf 'POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{}' >&"$fd"
exec {fd}>&-
for chunk in 'zz\r\n' '-1\r\n' 'ffffffffffffffffff\r\n{}' '2\r\n{}xx0\r\n\r\n'; do
  raw "POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n$chunk"
  ! grep -q 2 <<<"${statuses:0:1}" || fail "a broken chunk was taken: $statuses"
done
[ "$(curl -fsS "$url/v1/datasets" | jq '.data | length')" = "$before" ] || fail "something was made of half a body"

# ---- paths that climb, and headers as large as one likes ----
for path in '/v1/models/../../etc/passwd' '/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd' '/v1/models/..%5c..%5cetc' '/v1/models/%00' '/v1/models/a%00b' '/%ff' '/v1//models' \
  '/v1/models/%c0%ae%c0%ae/' '//etc/passwd' '/v1/models/%0d%0aX-Evil:1'; do
  refused "400 404" "GET ${path//%/%%} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
  ! grep -qiE '^X-Evil|root:' "$work/answer" || fail "$path: $(cat "$work/answer")"
done
long=$(head -c 200000 /dev/zero | tr '\0' a)
refused "400 414 431" "GET /$long HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
refused "400 413 431" "GET / HTTP/1.1\r\nHost: localhost\r\nX: $long\r\nConnection: close\r\n\r\n"

# ---- text that wants to be a header or a line of the log ----
raw 'GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a"},{"msg":"forged"\r\nConnection: close\r\n\r\n'
grep -q '^X-Request-Id: req_' "$work/answer" || fail "an odd request id was taken"
expect 404 GET '/v1/models/%22%7D%7B%22msg%22:%22forged%22'
expect 422 GET '/v1/jobs?state=%22%7D%7B%22msg%22:%22forged%22'
expect 201 POST /v1/datasets -d '{"name": "\"}{\"msg\":\"forged\" <script>alert(1)</script>"}'
[ "$(field .name)" = '"}{"msg":"forged" <script>alert(1)</script>' ] || fail "a name came back otherwise: $reply"
expect 422 POST /v1/datasets -d '{"name": "two\nlines"}'

# ---- what swells ----
memory() { awk '/^VmRSS/ {print $2}' "/proc/$pid/status"; }
resident=$(memory)
{ printf '{"name": '; printf '[%.0s' $(seq 200); printf ']%.0s' $(seq 200); printf '}'; } >"$work/deep"
expect 413 POST /v1/datasets --data-binary "@$work/deep"
{ printf '{"tags": ['; printf '{},%.0s' $(seq 20000); printf '{}]}'; } >"$work/wide"
expect 413 POST /v1/datasets --data-binary "@$work/wide"
expect 413 POST /v1/models --data-binary "@$work/deep"
expect 201 POST /v1/datasets -d '{}'
dataset=$(field .id)
{ printf '\0\0\x08\x03\x00\x0f\x42\x40\x00\x00\x00\x1c\x00\x00\x00\x1c'; head -c 784000000 /dev/zero; } | gzip -1 >"$work/bomb.gz"
call PUT "/v1/datasets/$dataset/train/features" -T "$work/bomb.gz"
[ "$status" = 413 ] || [ "$status" = 422 ] || fail "a gzip bomb of $(stat -c %s "$work/bomb.gz") bytes got $status: $reply"
[ $slow = 1 ] || [ $(($(memory) - resident)) -lt 60000 ] || fail "memory grew from $resident to $(memory) kB"

# ---- ranges and event ids ----
expect 201 POST /v1/models --data-binary "@$source/api/examples/lenet-300-100.json"
model=$(field .id)
file="/v1/models/$model/file?format=keras"
for range in 'bytes=0-,0-,0-,0-' 'bytes=-' 'bytes=5-2' 'bytes=a-b' 'pages=1-2' 'bytes=1-99999999999999999999' 'bytes= 0-1' 'bytes=0-0-0' ''; do
  expect 200 GET "$file" -H "Range: $range" -o /dev/null
done
expect 416 GET "$file" -H 'Range: bytes=99999999-'
expect 416 GET "$file" -H 'Range: bytes=-0'
expect 206 GET "$file" -H 'Range: bytes=-99999999'
for id in x -1 1e3 99999999999999999999 '0 ' "$(printf '1\t')x"; do
  call GET /v1/events -m 1 -H 'Accept: text/event-stream' -H "Last-Event-ID: $id"
  [ "$status" = 422 ] || [ "$id" = '0 ' ] || fail "Last-Event-ID \"$id\" got $status"
done
for after in -1 x 1e3 99999999999999999999 %27 1%20OR%201=1; do expect 422 GET "/v1/events?after=$after"; done
for name in %25 _ %27%20OR%20%271%27=%271 %5c; do expect 200 GET "/v1/jobs?name=$name"; [ "$(field '.data | length')" = 0 ] || fail "?name=$name found $reply"; done

# ---- a crowd from one address: so many connections, and no more ----
held=()
for _ in $(seq 40); do exec {fd}<>"/dev/tcp/127.0.0.1/$port" && held+=("$fd") || true; done 2>/dev/null
answered=0
for fd in "${held[@]}"; do
  printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n' 2>/dev/null >&"$fd" || continue
  if IFS= read -r -t 1 -u "$fd" line 2>/dev/null && [[ $line == "HTTP/1.1 200"* ]]; then answered=$((answered + 1)); fi
done
[ "$answered" -ge 1 ] && [ "$answered" -le 12 ] || fail "$answered of 40 connections from one address were served"
for fd in "${held[@]}"; do exec {fd}>&-; done
for _ in $(seq 50); do call GET /healthz; [ "$status" != 200 ] || break; sleep 0.1; done
[ "$status" = 200 ] || fail "the address does not come back: $status"

sleep 0.3
[ -z "$(find "$data/tmp" -type f)" ] || fail "temporary files are left: $(find "$data/tmp" -type f)"
stop
jq -e . "$log" >/dev/null || fail "a line of the log is no JSON"
! jq -e 'select(.msg == "forged")' "$log" >/dev/null || fail "a client wrote a line of the log"
