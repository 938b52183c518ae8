#!/usr/bin/env bash
# A daemon that was stopped (SIGSTOP) for longer than any client may take, and goes on: the time in which it did not run counts against nobody. Requests that came
# before, during and after are answered, half a request is waited for, an upload goes on.
. "$(dirname "$0")/daemon.bash"
start
trap "" PIPE
port=${url##*:}
head='GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
connect() { exec {fd}<>"/dev/tcp/127.0.0.1/$port"; }
expect 201 POST /v1/datasets -d '{"name": "slow"}'
dataset=$(field .id)

waiting=() halves=()
for _ in $(seq 8); do connect; waiting+=("$fd"); done
for _ in $(seq 8); do connect; halves+=("$fd"); printf "${head:0:30}" >&"$fd"; done
connect
upload=$fd
printf 'PUT /v1/datasets/%s/train/labels HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 12\r\n\r\n\0\0\x08\1' "$dataset" >&"$upload"
sleep 0.5 # they are in its hands
kill -STOP "$pid"
for fd in "${waiting[@]:0:4}"; do printf "$head" >&"$fd"; done
sleep 31 # headers may take 10 s, an upload 30
kill -CONT "$pid"
sleep 0.3
for fd in "${waiting[@]:4}"; do printf "$head" >&"$fd"; done
for fd in "${halves[@]}"; do printf "${head:30}" >&"$fd"; done
printf '\0\0\0\4\0\1\0\1' >&"$upload"
# answered STATUS FD WHAT
answered() {
  local line=""
  IFS= read -r -t 5 -u "$2" line || true
  [[ $line == "HTTP/1.1 $1"* ]] || fail "$3 got \"$line\", not $1"
}
for fd in "${waiting[@]}"; do answered 200 "$fd" "a connection from before"; done
for fd in "${halves[@]}"; do answered 200 "$fd" "half a request"; done
answered 201 "$upload" "half an upload"
stop
