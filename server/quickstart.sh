#!/usr/bin/env bash
# server/quickstart.sh: from a bare machine to a pruned network: installs, builds, starts espalierd, runs the main job on Fashion-MNIST.
#   server/quickstart.sh          stops the daemon at the end; what it stored stays in espalier-data/
#   server/quickstart.sh --keep   leaves it running
# Environment: ESPALIER_DATA (folder of the daemon), ESPALIER_LISTEN (127.0.0.1:8080; when that port is taken, a free one).
# Works as root and as a sudo user, again at once, beside a running daemon of the same folder, and without a terminal.
set -euo pipefail
cd "$(dirname "$0")/.."
keep=0
for a in "$@"; do
  case $a in --keep) keep=1 ;; *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
done
data=${ESPALIER_DATA:-espalier-data}
listen=${ESPALIER_LISTEN:-127.0.0.1:8080}
images=/usr/share/datasets/fashion-mnist
if [ -t 1 ]; then tty=1 bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' off=$'\e[0m'; else tty=0 bold="" dim="" green="" off=""; fi
say() { printf '%s\n' "$*"; }
step() { printf '%s\n' "${green}==>${off} ${bold}$*${off}"; }
die() { printf '%s\n' "quickstart: $*" >&2; exit 1; }

# ---- build ----
step "Packages and build"
server/packages.sh build run
mkdir -p build
exec 9>build/.quickstart.lock
flock 9
{ cmake -S . -B build -DSANITIZE= && cmake --build build -j "$(nproc)" --target espalierd; } >build/quickstart.log 2>&1 ||
  { tail -30 build/quickstart.log; die "the build failed: the whole log is in build/quickstart.log"; }
exec 9>&-
say "    $(build/espalierd --version), $(stat -c %s build/espalierd | awk '{printf "%.1f MB", $1/1e6}')"

# ---- start ----
mkdir -p "$data"
log=$data/espalierd.log
daemon=""
launch() { # address
  : >"$log"
  build/espalierd --listen "$1" --data "$data" >>"$log" 2>&1 9>&- &
  daemon=$!
  for _ in $(seq 100); do
    url=$(sed -nE 's/.*(http:\/\/[0-9a-z.:[\]*[0-9]+).*/\1/p' "$log" | head -n 1)
    [ -z "$url" ] || { curl -fsS -o /dev/null "$url/healthz" 2>/dev/null && { say "$url" >"$data/url"; return 0; }; }
    kill -0 "$daemon" 2>/dev/null || { daemon=""; return 1; }
    sleep 0.05
  done
  return 1
}
stop() {
  [ -z "$daemon" ] || [ $keep = 1 ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; } || true
}
trap stop EXIT
url=$(cat "$data/url" 2>/dev/null || true)
if [ -n "$url" ] && curl -fsS -m 2 -o /dev/null "$url/healthz" 2>/dev/null; then
  step "espalierd is running already at $url"
else
  step "Starting espalierd (SQLite and files in $data/)"
  launch "$listen" || launch "${listen%:*}:0" || { tail -5 "$log"; die "espalierd did not start"; }
  say "    $url"
fi

# ---- upload ----
api() { # method path [curl arguments]: prints the reply; a problem document ends the script
  local method=$1 path=$2 reply status
  shift 2
  reply=$(curl -sS -X "$method" -w '\n%{http_code}' "$@" "$url$path") || die "$method $path: no answer"
  status=${reply##*$'\n'} reply=${reply%$'\n'*}
  [ "$status" -lt 400 ] || { say "$reply" | jq . 2>/dev/null || say "$reply"; die "$method $path answered $status"; }
  printf '%s' "$reply"
}
step "Uploading LeNet-300-100 (Keras JSON) and Fashion-MNIST (IDX, 70,000 images)"
dataset=$(api GET '/v1/datasets?limit=200' | jq -r '[.data[] | select(.name == "fashion-mnist" and .ready)][0].id // empty')
if [ -z "$dataset" ]; then
  dataset=$(api POST /v1/datasets -d '{"name": "fashion-mnist"}' | jq -r .id)
  for split in train:train test:t10k; do
    api PUT "/v1/datasets/$dataset/${split%:*}/features" -T "$images/${split#*:}-images-idx3-ubyte.gz" >/dev/null
    api PUT "/v1/datasets/$dataset/${split%:*}/labels" -T "$images/${split#*:}-labels-idx1-ubyte.gz" >/dev/null
  done
fi
model=$(api POST /v1/models --data-binary @api/examples/lenet-300-100.json | jq -r .id)
say "    data set $dataset, model $model"

# ---- the job ----
step "Posting the job: 10 epochs, then 10 x (prune, 2 epochs) up to 95 % sparsity"
body=$(jq -c --arg m "$model" --arg d "$dataset" '. + {model: $m, dataset: $d}' api/examples/job-lenet-95.json)
job=$(api POST /v1/jobs -d "$body" | jq -r .id)
say "    ${dim}curl -d '$body' $url/v1/jobs${off}"
say "    $job"
say ""
say "${bold} iter  sparsity  accuracy           non-zeros      bytes   latency      seconds${off}"
say "${bold}                 pruned  retrained              packed   batch 1   this  total${off}"
started=$(date +%s.%N)
shown=0
rows() {
  local line
  while IFS=$'\t' read -r -a line; do
    [ $tty = 0 ] || printf '\r\e[K'
    printf '%5d  %7.2f%%  %6.4f     %6.4f  %10d  %9d  %5.0f us  %5.1f  %5.1f\n' "${line[@]}" \
      "$(awk -v a="$started" -v b="$(date +%s.%N)" 'BEGIN {print b - a}')"
    shown=${line[0]}
  done < <(api GET "/v1/jobs/$job/iterations?limit=200&after=$shown" | jq -r '.data[] |
    [.iteration, 100 * .sparsity, .pruned.accuracy, .retrained.accuracy, .nonzero, .bytes.packed, .latency_us.batch_1, (.seconds | add)] | @tsv')
}
baseline_shown=0
while :; do
  status=$(api GET "/v1/jobs/$job")
  state=$(jq -r .state <<<"$status")
  if [ $baseline_shown = 0 ] && [ "$(jq -r '.baseline != null' <<<"$status")" = true ]; then
    [ $tty = 0 ] || printf '\r\e[K'
    jq -r '.baseline | [.metrics.accuracy, .nonzero, .bytes.packed, .latency_us.batch_1] | @tsv' <<<"$status" |
      awk -F'\t' '{printf "dense     0.00%%             %6.4f  %10d  %9d  %5.0f us\n", $1, $2, $3, $4}'
    baseline_shown=1
  fi
  rows
  case $state in succeeded | failed | cancelled) break ;; esac
  if [ $tty = 1 ]; then
    printf '\r\e[K%s' "$dim$(jq -r '.progress // {} | "\(((.fraction // 0) * 100) | floor) %  \(.phase // "queued")" +
      (if (.epochs // 0) > 0 then " epoch \(.epoch)/\(.epochs)" else "" end) + (if .loss then "  loss \(.loss * 1000 | round / 1000)" else "" end) +
      (if .eta_seconds then "  about \(.eta_seconds | ceil) s left" else "" end)' <<<"$status")$off"
  fi
  sleep 0.5
done
[ $tty = 0 ] || printf '\r\e[K'
[ "$state" = succeeded ] || { jq .error <<<"$status"; die "the job ended as $state"; }

# ---- the result ----
say ""
step "$(jq -r '.result.message' <<<"$status")"
mkdir -p "$data/results"
out=$data/results/$job
curl -fsS -o "$out.safetensors" "$url/v1/jobs/$job/model?format=safetensors"
curl -fsS -o "$out.keras.json" "$url/v1/jobs/$job/model?format=keras"
curl -fsS -o "$out.csv" "$url/v1/jobs/$job/iterations?format=csv"
jq -r 'def r($n): . * pow(10; $n) | round / pow(10; $n);
  .result | "    \(.sparsity * 100 | r(2)) % of the weights are zero; \(.compression_ratio | r(1))x fewer parameters, \(.bytes.dense / .bytes.packed | r(1))x fewer bytes packed",
  "    test accuracy \(.chosen.test.accuracy) (dense \(.baseline.test.accuracy)), F1 \(.chosen.test.f1 | r(4)), AUC \(.chosen.test.auc | r(4))"' <<<"$status"
say "    $out.safetensors, .keras.json, .csv ($(gzip -c "$out.safetensors" | wc -c | awk '{printf "%.0f KB gzipped", $1/1000}'))"
say ""
step "What to try next"
[ $keep = 1 ] || say "    build/espalierd --data $data &                           # the daemon again, with all that it stored"
cat <<EOF
    curl -s $url/v1/jobs/$job | jq .result               # the proof
    curl -s '$url/v1/jobs/$job/iterations?format=csv'    # every figure of every iteration
    curl -s $url/v1/capabilities | jq .                  # criteria, schedules, optimizers, their options
    curl -s -d '{"model": "$model", "dataset": "$dataset", "prune": {"scope": "layer", "target_sparsity": 0.98}}' $url/v1/jobs | jq .
    README.md: your own Keras model, your own CSV, how to add a criterion
EOF
