#!/bin/sh
# many.sh CLIENTS [ws|tcp]: so many clients with a subscription each in one broker process, each of which gets
# one message; prints connections, losses and the broker's memory per client. Needs that many open files in
# each of two processes: run it where `ulimit -n` allows them.
set -eu
cd "$(dirname "$0")/.."
clients=${1:-100000} transport=${2:-ws}
dir=$(mktemp -d)
broker=
trap 'kill $broker 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
[ -n "${BIN:-}" ] || { BIN=$dir; go build -o "$dir" ./cmd/noctule ./cmd/noctule-bench; }
cat >"$dir/noctule.conf" <<CONF
listener 18830 127.0.0.1
listener 18831 127.0.0.1
protocol websockets
allow_anonymous true
log_type error
log_dest stderr
CONF
"$BIN/noctule" -c "$dir/noctule.conf" &
broker=$!
sleep 2
url=mqtt://127.0.0.1:18830
[ "$transport" = tcp ] || url=ws://127.0.0.1:18831
"$BIN/noctule-bench" fanout -u "$url" --subscribers "$clients" --rate 1 --limit 1 --warmup 0s --duration "${DURATION:-30s}" \
  --keep-alive 600 --drain 60s --hold 5s --pid "$broker"
