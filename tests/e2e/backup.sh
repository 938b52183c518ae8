#!/usr/bin/env bash
# espalierd backup while a job runs: a daemon on the copy goes on with that job and ends it with the same bytes, on the same disk (hard links) as on another
# one (copies). espalierd check: says what would be used, and what is wrong.
. "$(dirname "$0")/daemon.bash"
epochs=3 iterations=3
[ $slow = 0 ] || { epochs=1 iterations=1; }
start --checkpoint-seconds 0.1
small_fashion
lenet
expect 201 POST /v1/jobs -d '{"model": "'"$model"'", "dataset": "'"$dataset"'", "seed": 3, "train": {"epochs": '$epochs'},
  "prune": {"iterations": '$iterations', "target_sparsity": 0.9}, "retrain": {"epochs": 1}}'
job=$(field .id)
wait_state "$job" running 20
sleep 0.3
copies=("$work/copy")
other=$(mktemp -d /dev/shm/espalier.XXXXXX 2>/dev/null) || other=""
[ -z "$other" ] || { copies+=("$other/copy"); trap 'rm -rf "$other"; finish' EXIT; }
for copy in "${copies[@]}"; do
  "$espalierd" backup "$copy" --data "$data" || fail "no backup"
  [ "$(sqlite3 "$copy/espalier.db" 'PRAGMA integrity_check')" = ok ] || fail "the copy's database is damaged"
  [ "$(sqlite3 "$copy/espalier.db" 'SELECT count(*) FROM blobs')" -le "$(find "$copy/blobs" -type f | wc -l)" ] || fail "files are missing in the copy"
done
if "$espalierd" backup "$work/copy" --data "$data" 2>/dev/null; then fail "a backup onto a backup"; fi
if "$espalierd" backup "$work/other" --data "$work/none" 2>/dev/null; then fail "a backup of nothing"; fi
state=$(curl -fsS "$url/v1/jobs/$job" | jq -r .state)
[ "$state" = running ] || [ $slow = 1 ] || fail "the job was $state before the backups were done: too fast for this test"
"$espalierd" check --data "$data" | jq -e '.data | endswith("in use by a daemon")' >/dev/null || fail "check does not see the daemon"
wait_state "$job" succeeded 300
want_records=$(records "$job") want_hash=$(model_hash "$job") want_result=$(result "$job")
stop

for copy in "${copies[@]}"; do
  data=$copy
  start
  wait_state "$job" succeeded 300
  [ "$(records "$job")" = "$want_records" ] || fail "$copy: other iterations"
  [ "$(model_hash "$job")" = "$want_hash" ] || fail "$copy: another model"
  [ "$(result "$job")" = "$want_result" ] || fail "$copy: another result"
  stop
done

# check: what is right
"$espalierd" check --data "$work/none" --workers 3 >"$work/out" || fail "check: $(cat "$work/out")"
[ "$(jq -r .settings.workers "$work/out")" = 3 ] || fail "check does not say the settings: $(cat "$work/out")"
[ ! -e "$work/none" ] || fail "check made the data directory"
"$espalierd" check --data "$data" >/dev/null
# ... and what is wrong: exit 1, and the reason
: >"$work/file"
mkdir "$work/foreign" && sqlite3 "$work/foreign/espalier.db" 'CREATE TABLE t (x)'
refused() { # TEXT [arguments]
  local text=$1 s=0
  shift
  "$espalierd" check "$@" >"$work/out" 2>&1 || s=$?
  [ $s = 1 ] && grep -qF -- "$text" "$work/out" || fail "check $*: exit status $s: $(cat "$work/out")"
}
refused "--workers" --workers 0
refused "unknown option --nonsense" --nonsense
refused "HOST:PORT" --listen nowhere
refused "HOST:PORT" --listen-health nowhere
refused "data directory" --data "$work/file"
refused "data directory" --data "$work/file/below"
refused "database" --data "$work/foreign"
ESPALIER_WORKERS=2 ESPALIER_WORKERS_FILE=$work/file refused "are both set"
