#!/usr/bin/env bash
# tests/bench/job.sh: the whole main job beside PyTorch (Debian's python3-torch), alternated seed by seed in one run.
#   tests/bench/job.sh [--net lenet-300-100|lenet-5] [--target 0.95] [--threads 1] [--seeds "0 1 2"] [--no-peer]
#       [--peer-threads N] [--json FILE]
# The same configuration on both sides: LeNet-300-100 (or LeNet-5) on Fashion-MNIST, all 60,000 images, 10 dense epochs, 10 iterations x 2 epochs,
# cubic to the target, global magnitude, Adam 1e-3, batch 128, accuracy on the 10,000 test images when dense and at the end. So that all 60,000 train,
# the test images are also given as the validation split: without a contract nothing is chosen by them. Peak memory is VmHWM of the daemon.
# PyTorch runs on as many threads as ours, but LeNet-300-100 on one, where it is slower with two (see epochs.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
net=lenet-300-100 target=0.95 threads=1 seeds="0 1 2" peer=1 peer_threads="" json=""
while [ $# -gt 0 ]; do
  case $1 in
    --net) net=$2; shift 2 ;;
    --target) target=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --json) json=$2; shift 2 ;;
    --no-peer) peer=0; shift ;;
    --peer-threads) peer_threads=$2; shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
[ -n "$peer_threads" ] || { [ "$net" = lenet-300-100 ] && peer_threads=1 || peer_threads=$threads; }
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
model=$(curl -fsS --data-binary "@api/examples/$net.json" "$url/v1/models" | jq -r .id)

printf '%-6s %-9s %8s %8s %8s %9s\n' seed side seconds dense pruned "peak MB"
rows="[]"
row() { # seed side seconds accuracy-dense accuracy-pruned peak
  printf '%-6s %-9s %8.2f %8.4f %8.4f %9.1f\n' "$@"
  rows=$(jq -c --argjson s "$1" --arg w "$2" --argjson t "$3" --argjson d "$4" --argjson a "$5" --argjson m "$6" '
    . + [{seed: $s, side: $w, seconds: $t, dense: $d, accuracy: $a, peak_mb: $m}]' <<<"$rows")
}
for seed in $seeds; do
  begun=$(date +%s%N)
  job=$(jq -c --arg m "$model" --arg d "$dataset" --argjson s "$seed" --argjson target "$target" '
      del(.stop) + {model: $m, dataset: $d, seed: $s} | .prune.target_sparsity = $target' api/examples/job-lenet-95.json |
    curl -fsS -d @- "$url/v1/jobs" | jq -r .id)
  # a request is answered when something changed: asking ten times a second takes the job's two cores a fifth of their time
  until state=$(curl -fsS "$url/v1/jobs/$job?wait=30" | jq -r .state) && [ "$state" != queued ] && [ "$state" != running ]; do :; done
  took=$(awk -v a="$begun" -v b="$(date +%s%N)" 'BEGIN {print (b - a) / 1e9}')
  [ "$state" = succeeded ] || { curl -fsS "$url/v1/jobs/$job"; exit 1; }
  curl -fsS "$url/v1/jobs/$job" >"$work/job"
  row "$seed" espalier "$took" "$(jq .result.baseline.test.accuracy "$work/job")" "$(jq .result.chosen.test.accuracy "$work/job")" "$(memory VmHWM)"
  if [ $peer = 1 ]; then
    OMP_NUM_THREADS=$peer_threads OPENBLAS_NUM_THREADS=$peer_threads /usr/bin/time -f '%M' -o "$work/peak" \
      /usr/bin/python3 tests/bench/torch_prune.py "$images" --net "${net//-/}" --target "$target" --seed "$seed" --threads "$peer_threads" >"$work/peer"
    stage() { jq -s --arg s "$1" "map(select(.stage == \$s))[0].$2" "$work/peer"; }
    row "$seed" pytorch "$(stage total seconds)" "$(stage dense accuracy)" "$(stage iter10 accuracy)" "$(tail -n 1 "$work/peak" | awk '{print $1 / 1000}')"
  fi
done
summary=$(jq -c --arg cpu "$(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)" --argjson n "$threads" --argjson p "$peer_threads" --argjson ready "$ready_ms" --argjson idle "$idle_mb" '
  def mean(f): if length == 0 then null else (map(f) | add / length) end;
  {cpu: $cpu, threads: $n, peer_threads: $p, ready_ms: $ready, idle_mb: $idle, runs: .,
   espalier: (map(select(.side == "espalier")) | {dense: mean(.dense), accuracy: mean(.accuracy), seconds: mean(.seconds)}),
   pytorch: (map(select(.side == "pytorch")) | {dense: mean(.dense), accuracy: mean(.accuracy), seconds: mean(.seconds)})}
  | .speedup = (if .pytorch.seconds then .pytorch.seconds / .espalier.seconds else null end)' <<<"$rows")
jq -r '"\(.cpu), \(.threads) thread(s), PyTorch \(.peer_threads): accuracy dense \(.espalier.dense) against \(.pytorch.dense), pruned \(.espalier.accuracy) against \(.pytorch.accuracy);
  \(.espalier.seconds) s against \(.pytorch.seconds) s: \(.speedup)x",
  "start to ready \(.ready_ms) ms, idle memory \(.idle_mb) MB"' <<<"$summary"
[ -z "$json" ] || jq . <<<"$summary" >"$json"
