# tests/bench/daemon.bash: what benchmarks through the API share: a daemon of their own, data in MNIST's file format, jobs to their end.
# Sourced from the source folder; everything lies in $work and goes with it.
server/packages.sh build run
cmake -S . -B build >/dev/null && cmake --build build -j "$(nproc)" --target espalierd >/dev/null
work=$(mktemp -d)
pid="" url=""
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT

# start [arguments of the daemon]
start() {
  build/espalierd --listen 127.0.0.1:0 --data "$work/data" --workers 1 "$@" >"$work/log" 2>&1 &
  pid=$!
  until [ -n "$url" ] && curl -fsS -o /dev/null "$url/readyz" 2>/dev/null; do
    url=$(sed -nE 's/.*(http:\/\/127[0-9.]+:[1-9][0-9]*).*/\1/p' "$work/log" | head -n 1)
    kill -0 "$pid" || { cat "$work/log"; exit 1; }
    sleep 0.05
  done
}
# upload FOLDER SPLIT:PREFIX...: prints the data set's id. Files as MNIST's: PREFIX-images-idx3-ubyte, PREFIX-labels-idx1-ubyte, plain or .gz.
upload() {
  local folder=$1 id part kind file
  shift
  id=$(curl -fsS -d '{"name": "images"}' "$url/v1/datasets" | jq -r .id)
  for part in "$@"; do
    for kind in features:images-idx3 labels:labels-idx1; do
      file=$(find -L "$folder" -maxdepth 1 -name "${part#*:}-${kind#*:}-ubyte" -o -maxdepth 1 -name "${part#*:}-${kind#*:}-ubyte.gz" | head -n 1)
      [ -n "$file" ] || { echo "$folder has no ${part#*:}-${kind#*:}-ubyte[.gz]" >&2; return 1; }
      curl -fsS -o /dev/null -T "$file" "$url/v1/datasets/$id/${part%:*}/${kind%:*}"
    done
  done
  echo "$id"
}
# run JSON: posts a job, waits for its end, prints it; fails unless it succeeded.
run() {
  local job state
  job=$(curl -sS -d "$1" "$url/v1/jobs")
  [ "$(jq -r '.id // empty' <<<"$job")" ] || { echo "$job" >&2; return 1; }
  job=$(jq -r .id <<<"$job")
  while state=$(curl -fsS "$url/v1/jobs/$job?wait=20" | jq -r .state) && { [ "$state" = queued ] || [ "$state" = running ]; }; do :; done
  curl -fsS "$url/v1/jobs/$job"
  [ "$state" = succeeded ]
}
