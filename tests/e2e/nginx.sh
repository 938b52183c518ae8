#!/usr/bin/env bash
# docker/nginx.conf in a real nginx, where one is installed: uploads, parts of files, conditional requests and whole jobs go through it.
. "$(dirname "$0")/daemon.bash"
nginx=$(command -v nginx || echo /usr/sbin/nginx)
[ -x "$nginx" ] || { echo "nginx is not installed: not asked"; exit 0; }
start
direct=$url
front=$((20000 + RANDOM % 10000))
mkdir "$work/nginx"
sed -e "s/127.0.0.1:8080/${direct#http://}/" -e "s/listen 80;.*/listen 127.0.0.1:$front;/" "$source/docker/nginx.conf" >"$work/nginx/site.conf"
cat >"$work/nginx/nginx.conf" <<END
daemon off; pid $work/nginx/pid; error_log $work/nginx/errors; events {}
http {
  access_log off; client_body_temp_path $work/nginx/body; proxy_temp_path $work/nginx/proxy; fastcgi_temp_path $work/nginx/f;
  uwsgi_temp_path $work/nginx/u; scgi_temp_path $work/nginx/s; include $work/nginx/site.conf;
}
END
"$nginx" -p "$work/nginx" -c "$work/nginx/nginx.conf" 2>"$work/nginx/stderr" &
proxy=$!
trap 'kill $proxy 2>/dev/null || true; finish' EXIT
url=http://127.0.0.1:$front
for _ in $(seq 50); do curl -fsS -o /dev/null "$url/" 2>/dev/null && break; sleep 0.1; done
expect 404 GET /metrics
small_fashion
expect 201 POST /v1/models --data-binary "@$source/api/examples/lenet-300-100.json"
model=$(field .id)
expect 201 POST /v1/jobs -d '{"model": "'"$model"'", "dataset": "'"$dataset"'", "train": {"epochs": 1}, "prune": {"iterations": 1}, "retrain": {"epochs": 1}}'
job=$(field .id)
wait_state "$job" succeeded 200
file="/v1/jobs/$job/model?format=safetensors"
curl -fsS -D "$work/headers" -o "$work/whole" "$url$file"
etag=$(sed -nE 's/^etag: (.*)\r$/\1/Ip' "$work/headers")
curl -fsS -o "$work/direct" "$direct$file"
cmp "$work/whole" "$work/direct" || fail "another file through nginx"
for range in 0-999 1000-; do curl -fsS -H "Range: bytes=$range" -H "If-Range: $etag" "$url$file"; done >"$work/parts"
cmp "$work/whole" "$work/parts" || fail "the parts are not the whole"
expect 304 GET "$file" -H "If-None-Match: $etag"
[ "$(curl -sS -I -o /dev/null -w '%{http_code}' "$url$file")" = 200 ] || fail "HEAD"
# an upload is not kept by nginx until it is whole: the daemon refuses at once what is too large
exec {fd}<>"/dev/tcp/127.0.0.1/$front"
printf 'PUT /v1/models/%s/weights HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Length: 9999999999999\r\n\r\nsome' "$model" "$front" >&"$fd"
read -r -t 5 line <&"$fd" || true
exec {fd}>&-
[[ $line = "HTTP/1.1 413"* ]] || fail "nginx waited for the whole body: $line"
kill $proxy
wait $proxy 2>/dev/null || true
stop
