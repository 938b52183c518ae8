#!/usr/bin/env bash
# tests/bench/papers/run.sh: results of the literature on MNIST, or on any data in its file format.
#   tests/bench/papers/run.sh FOLDER [--threads 1] [--seeds "1 2 3 4 5"] [--papers "han-12x snip-95"] [--epochs-scale 1] [--json FILE]
# FOLDER has train-images-idx3-ubyte, train-labels-idx1-ubyte and the same for t10k, plain or .gz. Each *.json here is a paper's claim and the job that
# repeats it. As much of train is set apart for validation as the paper set apart, a fiftieth where it trained on all; the test split is looked at by
# nobody before the end. "Reached": the mean error is within 0.2 points of the paper's, which only MNIST itself can show. --epochs-scale 0.1: a tenth of
# the epochs, of rates' steps too, to see that all runs.
set -euo pipefail
papers="" threads=1 seeds="1 2 3 4 5" scale=1 json="" folder=${1:-}
[ -d "$folder" ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
folder=$(realpath "$folder")
shift
cd "$(dirname "$0")/../../.."
while [ $# -gt 0 ]; do
  case $1 in
    --threads) threads=$2 ;;
    --seeds) seeds=$2 ;;
    --papers) papers=$2 ;;
    --epochs-scale) scale=$2 ;;
    --json) json=$2 ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift 2
done
[ -n "$papers" ] || papers=$(basename -s .json -a tests/bench/papers/*.json | tr '\n' ' ')
. tests/bench/daemon.bash
start --threads "$threads"
dataset=$(upload "$folder" train:train test:t10k)
model=$(curl -fsS --data-binary @api/examples/lenet-300-100.json "$url/v1/models" | jq -r .id)
rows="[]"
shorter='def less: if . > 0 then [1, . * $scale | round] | max else . end;
  def shorter: if .epochs then .epochs |= less else . end | if (.learning_rate_schedule | type == "object" and .every) then .learning_rate_schedule.every |= less else . end;'
for paper in $papers; do
  file=tests/bench/papers/$paper.json
  for seed in $seeds; do
    begun=$(date +%s%N)
    job=$(run "$(jq -c --arg m "$model" --arg d "$dataset" --argjson s "$seed" --argjson scale "$scale" "$shorter"'
      .job + {model: $m, dataset: $d, seed: $s} | .train |= shorter | if .retrain then .retrain |= shorter else . end' "$file")") || { echo "$paper: no result" >&2; continue; }
    took=$(awk -v a="$begun" -v b="$(date +%s%N)" 'BEGIN {print (b - a) / 1e9}')
    rows=$(jq -c --arg p "$paper" --slurpfile f "$file" --argjson j "$job" --argjson seed "$seed" --argjson t "$took" '
      . + [{paper: $p, seed: $seed, seconds: $t, claim: $f[0].claim, result: $j.result,
            error: (100 * (1 - $j.result.chosen.test.accuracy)), dense_error: (if $j.config.train.epochs > 0 then 100 * (1 - $j.result.baseline.test.accuracy) else null end),
            sparsity: $j.result.sparsity, times_smaller: [$j.result.finishing[]?.times_smaller // empty][0]}]' <<<"$rows")
    jq -r 'last | "\(.paper), seed \(.seed): error \(.error * 100 | round / 100) %, \(if .dense_error then "dense \(.dense_error * 100 | round / 100) %" else "pruned untrained" end), sparsity \(.sparsity), \(.seconds) s"' <<<"$rows" >&2
  done
done
jq -r '
  def mean(f): map(f) | add / length;
  def round2: . * 100 | round / 100;
  "| paper | claimed sparsity, error | sparsity | error, mean of \(group_by(.seed) | length) (dense) | file | reached |", "|---|---|---|---|---|---|",
  (group_by(.paper)[] | mean(.error) as $e |
   "| \(.[0].paper) | \(.[0].claim.sparsity), \(.[0].claim.error) % | \(mean(.sparsity) * 10000 | round / 10000) | \($e | round2) % (\(if .[0].dense_error then "\(mean(.dense_error) | round2) %" else "pruned untrained" end)) | \(if .[0].times_smaller then "\(mean(.times_smaller) | round2)x" else "" end) | \(if $e <= .[0].claim.error + 0.2 then "yes" else "no" end) |")' <<<"$rows"
[ -z "$json" ] || jq . <<<"$rows" >"$json"
