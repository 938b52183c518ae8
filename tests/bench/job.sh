#!/usr/bin/env bash
# tests/bench/job.sh: the whole main job beside PyTorch (Debian's python3-torch), alternated seed by seed in one run.
#   tests/bench/job.sh [--threads 1] [--seeds "0 1 2"] [--no-peer] [--json FILE]
# The same configuration on both sides: LeNet-300-100 on Fashion-MNIST, all 60,000 images, 10 dense epochs, 10 iterations x 2 epochs, cubic to
# 95 %, global magnitude, Adam 1e-3, batch 128, accuracy on the 10,000 test images at 95 % sparsity. So that all 60,000 train, the test images
# are also given as the validation split: without a contract nothing is chosen by them. Prints a table; peak memory is VmHWM of the daemon.
set -euo pipefail
cd "$(dirname "$0")/../.."
threads=1 seeds="0 1 2" peer=1 json=""
while [ $# -gt 0 ]; do
  case $1 in
    --threads) threads=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --json) json=$2; shift 2 ;;
    --no-peer) peer=0; shift ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
images=/usr/share/datasets/fashion-mnist
server/packages.sh build run
[ $peer = 0 ] || dpkg-query -W python3-torch >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends python3-torch >/dev/null
cmake -S . -B build >/dev/null && cmake --build build -j "$(nproc)" --target espalierd >/dev/null
work=$(mktemp -d)
pid=""
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT

begun=$(date +%s%N)
build/espalierd --listen 127.0.0.1:0 --data "$work/data" --workers 1 --threads "$threads" >"$work/log" 2>&1 &
pid=$!
url=""
until [ -n "$url" ] && curl -fsS -o /dev/null "$url/readyz" 2>/dev/null; do
  url=$(sed -nE 's/.*(http:\/\/127[0-9.]+:[1-9][0-9]*).*/\1/p' "$work/log" | head -n 1)
done
ready_ms=$((($(date +%s%N) - begun) / 1000000))
sleep 0.5
memory() { awk -v k="$1:" '$1 == k {printf "%.1f", $2 / 1000}' "/proc/$pid/status"; }
idle_mb=$(memory VmRSS)

dataset=$(curl -fsS -d '{"name": "fashion-mnist"}' "$url/v1/datasets" | jq -r .id)
for part in train:train validation:t10k test:t10k; do
  curl -fsS -o /dev/null -T "$images/${part#*:}-images-idx3-ubyte.gz" "$url/v1/datasets/$dataset/${part%:*}/features"
  curl -fsS -o /dev/null -T "$images/${part#*:}-labels-idx1-ubyte.gz" "$url/v1/datasets/$dataset/${part%:*}/labels"
done
model=$(curl -fsS --data-binary @api/examples/lenet-300-100.json "$url/v1/models" | jq -r .id)

printf '%-6s %-9s %8s %14s %9s\n' seed side seconds "acc. at 95 %" "peak MB"
rows="[]"
row() { # seed side seconds accuracy peak
  printf '%-6s %-9s %8.2f %14.4f %9.1f\n' "$@"
  rows=$(jq -c --argjson s "$1" --arg w "$2" --argjson t "$3" --argjson a "$4" --argjson m "$5" '. + [{seed: $s, side: $w, seconds: $t, accuracy: $a, peak_mb: $m}]' <<<"$rows")
}
for seed in $seeds; do
  begun=$(date +%s%N)
  job=$(jq -c --arg m "$model" --arg d "$dataset" --argjson s "$seed" 'del(.stop) + {model: $m, dataset: $d, seed: $s}' api/examples/job-lenet-95.json |
    curl -fsS -d @- "$url/v1/jobs" | jq -r .id)
  # a request is answered when something changed: asking ten times a second takes the job's two cores a fifth of their time
  until state=$(curl -fsS "$url/v1/jobs/$job?wait=30" | jq -r .state) && [ "$state" != queued ] && [ "$state" != running ]; do :; done
  took=$(awk -v a="$begun" -v b="$(date +%s%N)" 'BEGIN {print (b - a) / 1e9}')
  [ "$state" = succeeded ] || { curl -fsS "$url/v1/jobs/$job"; exit 1; }
  row "$seed" espalier "$took" "$(curl -fsS "$url/v1/jobs/$job" | jq .result.chosen.test.accuracy)" "$(memory VmHWM)"
  if [ $peer = 1 ]; then
    OMP_NUM_THREADS=$threads OPENBLAS_NUM_THREADS=$threads /usr/bin/time -f '%M' -o "$work/peak" \
      /usr/bin/python3 tests/bench/torch_prune.py "$images" --seed "$seed" --threads "$threads" >"$work/peer"
    row "$seed" pytorch "$(jq -s '.[] | select(.stage == "total").seconds' "$work/peer")" "$(jq -s 'map(select(.stage == "iter10"))[0].accuracy' "$work/peer")" \
      "$(tail -n 1 "$work/peak" | awk '{print $1 / 1000}')"
  fi
done
summary=$(jq -c --arg cpu "$(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)" --argjson n "$threads" --argjson ready "$ready_ms" --argjson idle "$idle_mb" '
  def mean(f): if length == 0 then null else (map(f) | add / length) end;
  {cpu: $cpu, threads: $n, ready_ms: $ready, idle_mb: $idle, runs: .,
   espalier: (map(select(.side == "espalier")) | {accuracy: mean(.accuracy), seconds: mean(.seconds)}),
   pytorch: (map(select(.side == "pytorch")) | {accuracy: mean(.accuracy), seconds: mean(.seconds)})}
  | .speedup = (if .pytorch.seconds then .pytorch.seconds / .espalier.seconds else null end)' <<<"$rows")
jq -r '"\(.cpu), \(.threads) thread(s): accuracy \(.espalier.accuracy) against \(.pytorch.accuracy); \(.espalier.seconds) s against \(.pytorch.seconds) s: \(.speedup)x",
  "start to ready \(.ready_ms) ms, idle memory \(.idle_mb) MB"' <<<"$summary"
[ -z "$json" ] || jq . <<<"$summary" >"$json"
