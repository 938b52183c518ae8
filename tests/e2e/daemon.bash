# tests/e2e/daemon.bash: what the end-to-end scripts share. Sourced with the daemon's path and the source folder as arguments.
# Every script works in a temporary folder of its own and leaves nothing behind, no process either.
set -euo pipefail
espalierd=${1:?usage: SCRIPT ESPALIERD SOURCE_FOLDER} source=${2:?usage: SCRIPT ESPALIERD SOURCE_FOLDER}
images=/usr/share/datasets/fashion-mnist
work=$(mktemp -d)
data=$work/data log=$work/log pid="" url=""
# A sanitizer makes everything some twenty times slower: the scripts then take smaller jobs.
slow=0
if grep -qa __asan_init "$espalierd" || grep -qa __tsan_init "$espalierd"; then slow=1; fi
finish() {
  local status=$?
  [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
  [ $status = 0 ] || { echo "---- the end of the daemon's log:"; tail -20 "$log" "$log.part" 2>/dev/null; }
  rm -rf "$work"
}
trap finish EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }
# Starts the daemon on a free port and waits until it answers; further arguments go to it.
start() {
  : >"$log.part" # it is looked into at once
  "$espalierd" --listen 127.0.0.1:0 --data "$data" "$@" >"$log.part" 2>&1 &
  pid=$!
  for _ in $(seq 600); do
    url=$(sed -nE 's/.*(http:\/\/127[0-9.]+:[1-9][0-9]*).*/\1/p' "$log.part" | head -n 1)
    if [ -n "$url" ] && curl -fsS -o /dev/null "$url/" 2>/dev/null; then return 0; fi
    kill -0 "$pid" 2>/dev/null || { pid=""; fail "the daemon did not start"; }
    sleep 0.02
  done
  fail "the daemon did not answer"
}
ended() { cat "$log.part" >>"$log"; : >"$log.part"; pid=""; }
crash() { kill -9 "$pid" && { wait "$pid" 2>/dev/null || true; }; ended; }
# Graceful; fails when the exit status is not 0.
stop() { local s=0; kill -TERM "$pid"; wait "$pid" || s=$?; ended; [ $s = 0 ] || fail "exit status $s on SIGTERM"; }

# call METHOD PATH [curl arguments]: sets status and reply.
call() {
  local method=$1 path=$2
  shift 2
  reply=$(curl -sS --path-as-is -X "$method" -w '\n%{http_code}' "$@" "$url$path") || { status=000 reply=""; return 0; }
  status=${reply##*$'\n'} reply=${reply%$'\n'*}
}
# expect STATUS METHOD PATH [curl arguments]
expect() {
  local want=$1
  shift
  call "$@"
  [ "$status" = "$want" ] || fail "$1 $2 answered $status, not $want: $reply"
}
# expect_problem STATUS POINTER METHOD PATH [curl arguments]: a problem document that names the field ("" : any).
expect_problem() {
  local want=$1 pointer=$2
  shift 2
  expect "$want" "$@"
  jq -e '.title and .status and .detail' <<<"$reply" >/dev/null || fail "$1 $2: no problem document: $reply"
  [ -z "$pointer" ] || [ "$(jq -r '.errors[0].pointer' <<<"$reply")" = "$pointer" ] || fail "$1 $2: not at $pointer: $reply"
}
field() { jq -r "$1" <<<"$reply"; }
# wait_state JOB STATE SECONDS
wait_state() {
  local s=""
  for _ in $(seq $(($3 * 10))); do
    call GET "/v1/jobs/$1"
    s=$(field .state)
    [ "$s" != "$2" ] || return 0
    case $s in succeeded | failed | cancelled) fail "job $1 is $s, not $2: $(field .error)" ;; esac
    sleep 0.1
  done
  fail "job $1 is $s after $3 s, not $2"
}
# A data set of the 10,000 test images (as train); sets dataset.
small_fashion() {
  expect 201 POST /v1/datasets -d '{"name": "small"}'
  dataset=$(field .id)
  expect 201 PUT "/v1/datasets/$dataset/train/features" -T "$images/t10k-images-idx3-ubyte.gz"
  expect 201 PUT "/v1/datasets/$dataset/train/labels" -T "$images/t10k-labels-idx1-ubyte.gz"
}
# sets model
lenet() { expect 201 POST /v1/models --data-binary "@$source/api/examples/lenet-300-100.json"; model=$(field .id); }
# Iterations and result without what a clock says.
records() { curl -fsS "$url/v1/jobs/$1/iterations?limit=200" | jq -cS '[.data[] | del(.seconds, .latency_us)]'; }
result() { curl -fsS "$url/v1/jobs/$1" | jq -cS '.result | del(.seconds, .latency_us, .finishing[]?.latency_us, .controls[]?.latency_us, .controls[]?.seconds)'; }
model_hash() { curl -fsS "$url/v1/jobs/$1/model?format=safetensors" | sha256sum | cut -d' ' -f1; }
published() { curl -fsS "$url/v1/jobs/$1/iterations?limit=200" | jq '.data | length'; }
