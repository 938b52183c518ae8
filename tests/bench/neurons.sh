#!/usr/bin/env bash
# tests/bench/neurons.sh: neurons pruned to half of the multiply-adds through the API, shrunk, downloaded, and timed beside the dense model.
#   tests/bench/neurons.sh [--net lenet-300-100|lenet-5|resnet-20] [--seeds "0 1 2"] [--threads 2] [--job FILE] [--scope layer]
#       [--cost time] [--rounds 41] [--json FILE] [--keep FOLDER]
# The job is api/examples/job-neurons-half.json, or FILE, in its scope and with its cost of a neuron, or those; of convolutional nets it is shortened to
# one epoch, with augmentation.
# Data: Fashion-MNIST, the test images for validation too (nothing is chosen by them); of ResNet-20 50,000 images of CIFAR-10's size made of it
# (tests/bench/cifar.py). Accuracy is of the test split; memory is VmHWM of the daemon; times are those of build/tests/bench_shrink, batch 128, for the
# last seed, whose models --keep keeps.
set -euo pipefail
cd "$(dirname "$0")/../.."
net=lenet-300-100 seeds="0 1 2" threads=2 file=api/examples/job-neurons-half.json scope="" cost="" rounds=41 json="" keep=""
while [ $# -gt 0 ]; do
  case $1 in
    --net) net=$2 ;;
    --seeds) seeds=$2 ;;
    --threads) threads=$2 ;;
    --job) file=$2 ;;
    --scope) scope=$2 ;;
    --cost) cost=$2 ;;
    --rounds) rounds=$2 ;;
    --json) json=$2 ;;
    --keep) keep=$(realpath "$2") ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift 2
done
. tests/bench/daemon.bash
cmake --build build -j "$(nproc)" --target bench_shrink >/dev/null
start --threads "$threads"
short='.prune.iterations = 1 | .prune.schedule = "one_shot" | .train.epochs = 1 | .retrain.epochs = 1 | del(.stop)'
case $net in
  lenet-300-100) cp api/examples/lenet-300-100.json "$work/model"; change='del(.stop)' ;;
  lenet-5) /usr/bin/python3 tests/data/keras/images.py lenet5 3 >"$work/model"; change="$short | .train.augment = {shift: 2}" ;;
  resnet-20) /usr/bin/python3 tests/data/keras/images.py resnet20 3 >"$work/model"; change="$short | .train.augment = {flip: \"horizontal\", shift: 4}" ;;
  *) echo "no net $net" >&2; exit 2 ;;
esac
if [ "$net" = resnet-20 ]; then
  /usr/bin/python3 tests/bench/cifar.py "$work/cifar"
  dataset=$(curl -fsS -d '{"format": "cifar10", "scaling": "channel"}' "$url/v1/datasets" | jq -r .id)
  for split in train test; do curl -fsS -o /dev/null -T "$work/cifar/$split.bin" "$url/v1/datasets/$dataset/$split/table"; done
  rm -r "$work/cifar"
else
  dataset=$(upload /usr/share/datasets/fashion-mnist train:train validation:t10k test:t10k)
fi
model=$(curl -fsS --data-binary "@$work/model" "$url/v1/models" | jq -r .id)
[ -z "$scope" ] || change="$change | .prune.scope = \"$scope\""
[ -z "$cost" ] || change="$change | .prune.unit |= (if type == \"string\" then {type: .} else . end) + {cost: \"$cost\"}"
rows="[]"
for seed in $seeds; do
  job=$(run "$(jq -c --arg m "$model" --arg d "$dataset" --argjson s "$seed" "$change | . + {model: \$m, dataset: \$d, seed: \$s}" "$file")")
  id=$(jq -r .id <<<"$job")
  rows=$(jq -c --argjson j "$job" --argjson s "$seed" --argjson mb "$(awk '$1 == "VmHWM:" {print $2 / 1000}' "/proc/$pid/status")" '. + [{seed: $s,
    dense: $j.result.baseline.test.accuracy, shrunk: $j.result.chosen.test.accuracy, peak_mb: $mb,
    difference: $j.result.finishing[0].max_relative_difference, macs: ($j.result.finishing[0] | .after.macs / .before.macs)}]' <<<"$rows")
  jq -r 'last | "seed \(.seed): accuracy \(.dense) dense, \(.shrunk) shrunk; multiply-adds \(.macs); masked and shrunk differ by \(.difference); \(.peak_mb) MB"' <<<"$rows"
done
curl -fsS -o "$work/dense" "$url/v1/jobs/$id/iterations/0/model?format=document"
curl -fsS -o "$work/shrunk" "$url/v1/jobs/$id/model?format=document"
jq -r '(map(.dense) | add / length) as $d | (map(.shrunk) | add / length) as $s | "mean: \($d) dense, \($s) shrunk: \(100 * ($s - $d)) points"' <<<"$rows"
[ -z "$keep" ] || cp "$work/dense" "$work/shrunk" "$keep"
kill "$pid"; wait "$pid" || true; pid=""
build/tests/bench_shrink --rounds "$rounds" "$work/dense" "$work/shrunk"
[ -z "$json" ] || jq . <<<"$rows" >"$json"
