#!/usr/bin/env bash
# tests/bench/steps.sh: milliseconds of a training step and of inference of LeNet-5 and ResNet-20 beside PyTorch, dense and masked, alternated.
#   tests/bench/steps.sh [--batch 128] [--rounds 3] [--steps 12] [--cases "lenet5:0 lenet5:0.96 resnet20:0"] [--no-peer] [--json FILE]
# Each round runs ours with one thread and with two, then PyTorch with one thread and with two: the least of the steps of a round, the median of
# the rounds. PyTorch counts with the better of its thread settings. Ours also gathers its batches, PyTorch's lie ready. Prints a table.
set -euo pipefail
cd "$(dirname "$0")/../.."
batch=128 rounds=3 steps=12 cases="lenet5:0 lenet5:0.96 resnet20:0" peer=1 json=""
while [ $# -gt 0 ]; do
  case $1 in
    --batch) batch=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    --cases) cases=$2; shift 2 ;;
    --json) json=$2; shift 2 ;;
    --no-peer) peer=0; shift ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
server/packages.sh build run
[ $peer = 0 ] || dpkg-query -W python3-torch >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends python3-torch >/dev/null
cmake -S . -B build >/dev/null && cmake --build build -j "$(nproc)" --target bench_steps >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for _ in $(seq "$rounds"); do
  for threads in 1 2; do
    for case in $cases; do
      build/tests/bench_steps --net "${case%:*}" --sparsity "${case#*:}" --threads "$threads" --batch "$batch" --steps "$steps" --json "$work/one" >/dev/null
      jq -c '.[] | {side: "espalier", net, sparsity, threads, train_ms, infer_ms}' "$work/one" >>"$work/rows"
    done
  done
  for threads in $([ $peer = 0 ] || echo 1 2); do
    # shellcheck disable=SC2086 # a list of words
    OMP_NUM_THREADS=$threads OPENBLAS_NUM_THREADS=1 /usr/bin/python3 tests/bench/torch_steps.py "$threads" "$batch" "$steps" $cases |
      jq -c '{side: "pytorch", net, sparsity, threads, train_ms, infer_ms}' >>"$work/rows"
  done
done
result=$(jq -s --arg cpu "$(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)" --argjson batch "$batch" --argjson rounds "$rounds" '
  def median: sort | .[(length - 1) / 2 | floor];
  def best(side; n; what): map(select(.side == side and (n == 0 or .threads == n))) | if length == 0 then null else group_by(.threads) | map(map(.[what]) | median) | min end;
  {cpu: $cpu, batch: $batch, rounds: $rounds, rows: [group_by([.net, .sparsity])[] | . as $all | ("train_ms", "infer_ms") as $what | $all[0] + {what: $what} |
    {net, sparsity, what, one: ($all | best("espalier"; 1; $what)), two: ($all | best("espalier"; 2; $what)), pytorch: ($all | best("pytorch"; 0; $what))}]}' "$work/rows")
[ -z "$json" ] || jq . <<<"$result" >"$json"
jq -r 'def r(x): x * 100 | round / 100; def x(b): if .pytorch then "\(r(.pytorch / b))x" else "-" end;
  "\(.cpu), batch \(.batch), \(.rounds) rounds; milliseconds", (["net", "sparsity", "", "1 thread", "2 threads", "pytorch", "1 thread:", "2 threads:"] | @tsv),
  (.rows[] | [.net, .sparsity, (.what | rtrimstr("_ms")), r(.one), r(.two), (.pytorch // 0 | r(.)), x(.one), x(.two)] | @tsv)' <<<"$result"
