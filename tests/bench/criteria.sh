#!/usr/bin/env bash
# tests/bench/criteria.sh: every criterion for single weights: LeNet-300-100 on Fashion-MNIST, test accuracy at 50, 80, 90, 95, 98 and 99 % sparsity.
#   tests/bench/criteria.sh [--threads 1] [--seeds "0 1 2 3 4"] [--criteria "magnitude snip"] [--epochs 10] [--retrain 2] [--json FILE]
# Two tables, mean and deviation over the seeds. "Cycle": 20 iterations of pruning and retraining, exponential to 99 %, so that the same job passes
# through all six sparsities. "One shot": the same dense model, cut once, not retrained. Criteria are those of GET /v1/capabilities that take single
# weights. As in job.sh the test images are also the validation split, and nothing is chosen by them.
set -euo pipefail
cd "$(dirname "$0")/../.."
threads=1 seeds="0 1 2 3 4" criteria="" epochs=10 retrain=2 json=""
while [ $# -gt 0 ]; do
  case $1 in
    --threads) threads=$2 ;;
    --seeds) seeds=$2 ;;
    --criteria) criteria=$2 ;;
    --epochs) epochs=$2 ;;
    --retrain) retrain=$2 ;;
    --json) json=$2 ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift 2
done
. tests/bench/daemon.bash
start --threads "$threads"
dataset=$(upload /usr/share/datasets/fashion-mnist train:train validation:t10k test:t10k)
model=$(curl -fsS --data-binary @api/examples/lenet-300-100.json "$url/v1/models" | jq -r .id)

# conf MODEL SEED CRITERION SPARSITY SCHEDULE ITERATIONS EPOCHS RETRAIN
conf() {
  jq -n --arg m "$1" --arg d "$dataset" --argjson seed "$2" --arg c "$3" --argjson s "$4" --arg schedule "$5" --argjson n "$6" --argjson train "$7" --argjson retrain "$8" '
    {model: $m, dataset: $d, seed: $seed, train: {epochs: $train}, retrain: {epochs: $retrain},
     prune: {criterion: $c, schedule: $schedule, iterations: $n, target_sparsity: $s}}'
}
takes() { # whether the criterion scores single weights
  curl -fsS -o /dev/null -d "$(conf "$model" 0 "$1" 0.5 one_shot 1 1 1)" "$url/v1/jobs?dry_run=true" 2>/dev/null
}
if [ -z "$criteria" ]; then
  for c in $(curl -fsS "$url/v1/capabilities" | jq -r '.criteria[].name'); do
    ! takes "$c" || criteria+=" $c"
  done
fi
rows="[]"
row() { # table criterion seed sparsity accuracy
  rows=$(jq -c --arg t "$1" --arg c "$2" --argjson seed "$3" --argjson s "$4" --argjson a "$5" '. + [{table: $t, criterion: $c, seed: $seed, sparsity: $s, accuracy: $a}]' <<<"$rows")
}
for seed in $seeds; do
  dense=$(run "$(conf "$model" "$seed" magnitude 0.5 one_shot 1 "$epochs" 0)" | jq -r .id)
  curl -fsS -o "$work/dense.safetensors" "$url/v1/jobs/$dense/iterations/0/model?format=safetensors"
  trained=$(curl -fsS --data-binary @api/examples/lenet-300-100.json "$url/v1/models" | jq -r .id)
  curl -fsS -o /dev/null -T "$work/dense.safetensors" "$url/v1/models/$trained/weights"
  for c in $criteria; do
    for s in 0.5 0.8 0.9 0.95 0.98 0.99; do
      job=$(run "$(conf "$trained" "$seed" "$c" "$s" one_shot 1 0 0)" | jq -r .id)
      row "one shot" "$c" "$seed" "$s" "$(curl -fsS "$url/v1/jobs/$job/iterations" | jq '[.data[] | select(.iteration == 1)][0].pruned.accuracy')"
    done
    job=$(run "$(conf "$model" "$seed" "$c" 0.99 exponential 20 "$epochs" "$retrain")" | jq -r .id)
    curl -fsS "$url/v1/jobs/$job/iterations?limit=100" >"$work/iterations"
    for at in 3:0.5 7:0.8 10:0.9 13:0.95 17:0.98 20:0.99; do
      row cycle "$c" "$seed" "${at#*:}" "$(jq --argjson i "${at%:*}" '[.data[] | select(.iteration == $i)][0].retrained.accuracy' "$work/iterations")"
    done
    echo "seed $seed, $c: done" >&2
  done
done
jq -r --arg order "$criteria" '
  def mean: add / length;
  def deviation: mean as $m | if length < 2 then 0 else (map(. - $m | . * .) | add / (length - 1) | sqrt) end;
  def cell: "\(100 * mean * 100 | round / 100) ± \(100 * deviation * 100 | round / 100)";
  . as $all | ("cycle", "one shot") as $t |
  "", "| \($t) | 50 % | 80 % | 90 % | 95 % | 98 % | 99 % |", "|---|---|---|---|---|---|---|",
  ($order | split(" ")[] | select(. != "") as $c |
   "| \($c) | " + ([0.5, 0.8, 0.9, 0.95, 0.98, 0.99 | . as $s | [$all[] | select(.table == $t and .criterion == $c and .sparsity == $s).accuracy] | cell] | join(" | ")) + " |")' <<<"$rows"
[ -z "$json" ] || jq . <<<"$rows" >"$json"
