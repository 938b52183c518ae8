#!/usr/bin/env bash
# tests/bench/epochs.sh: seconds per epoch of LeNet-300-100 on Fashion-MNIST (60,000 images, Adam) beside PyTorch, dense and masked, alternated.
#   tests/bench/epochs.sh [--batch 128] [--rounds 3] [--sparsities "0 0.8 0.95 0.98"] [--no-peer] [--json FILE]
# Each round runs ours with one thread and with two, then PyTorch with one thread and with two; the least time of two epochs a round, the
# median of the rounds. PyTorch counts with the better of its thread settings. Prints a table.
set -euo pipefail
cd "$(dirname "$0")/../.."
batch=128 rounds=3 sparsities="0 0.8 0.95 0.98" peer=1 json=""
while [ $# -gt 0 ]; do
  case $1 in
    --batch) batch=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --sparsities) sparsities=$2; shift 2 ;;
    --json) json=$2; shift 2 ;;
    --no-peer) peer=0; shift ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
images=/usr/share/datasets/fashion-mnist
server/packages.sh build run
[ $peer = 0 ] || dpkg-query -W python3-torch >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends python3-torch >/dev/null
cmake -S . -B build >/dev/null && cmake --build build -j "$(nproc)" --target bench_train >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for _ in $(seq "$rounds"); do
  for threads in 1 2; do
    for s in $sparsities; do
      build/tests/bench_train --threads "$threads" --batch "$batch" --sparsity "$s" --epochs 3 --json "$work/one" >/dev/null
      jq -c '.[] | {side: "espalier", sparsity, threads, seconds}' "$work/one" >>"$work/rows"
    done
  done
  for threads in $([ $peer = 0 ] || echo 1 2); do
    # shellcheck disable=SC2086 # a list of numbers
    OMP_NUM_THREADS=$threads OPENBLAS_NUM_THREADS=$threads /usr/bin/python3 tests/bench/torch_epoch.py "$images" "$threads" "$batch" 2 $sparsities |
      jq -c '{side: "pytorch", sparsity, threads, seconds: (.seconds | min)}' >>"$work/rows"
  done
done
result=$(jq -s --arg cpu "$(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)" --argjson batch "$batch" --argjson rounds "$rounds" '
  def median: sort | .[(length - 1) / 2 | floor];
  {cpu: $cpu, batch: $batch, rounds: $rounds, rows: (group_by(.sparsity) | map({sparsity: .[0].sparsity,
    one: map(select(.side == "espalier" and .threads == 1).seconds) | median, two: map(select(.side == "espalier" and .threads == 2).seconds) | median,
    pytorch_one: (map(select(.side == "pytorch" and .threads == 1).seconds) | if length == 0 then null else median end),
    pytorch_two: (map(select(.side == "pytorch" and .threads == 2).seconds) | if length == 0 then null else median end)}))}' "$work/rows")
[ -z "$json" ] || jq . <<<"$result" >"$json"
jq -r 'def r(x): x * 1000 | round / 1000; def x(b): if .pytorch_one then ([.pytorch_one, .pytorch_two] | min) as $p | "\($p / b * 10 | round / 10)x" else "-" end;
  "\(.cpu), batch \(.batch), \(.rounds) rounds; seconds per epoch", (["sparsity", "1 thread", "2 threads", "speed-up", "pytorch 1", "pytorch 2", "1 thread:", "2 threads:"] | @tsv),
  (.rows[] | [.sparsity, r(.one), r(.two), "\(r(.one / .two))x", (.pytorch_one // 0 | r(.)), (.pytorch_two // 0 | r(.)), x(.one), x(.two)] | @tsv)' <<<"$result"
