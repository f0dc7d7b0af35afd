#!/usr/bin/env bash
# Installs the brokers of brokers.toml that are missing: Debian's with apt (needs root), those in Go with go
# install, aedes with npm, the floor with the C compiler. Programs go to the directory $1, by default .bin beside
# this script; the last line, alone on standard output, is the PATH to use. What cannot be installed is said and
# left out.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${1:-$here/.bin}
mkdir -p "$bin" && bin=$(cd "$bin" && pwd) || exit 1
export PATH="$bin:$PATH:/usr/sbin" GOBIN="$bin" GOFLAGS=-buildvcs=false
go=${GO:-go}
nats=v2.15.2

say() { echo "install.sh: $*" >&2; }

# policy-rc.d keeps a package from starting its service, as in containers.
debian() { # package, program
  [ -x "$2" ] && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "$1 is left out: needs root and apt"
    return
  fi
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=1
  fi
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$1"; } \
    >/dev/null 2>"$bin/apt.log" || say "$1 is left out: $(tail -n 1 "$bin/apt.log")"
  [ -z "$made" ] || rm -f "$policy"
}

built() { # name, command that installs it
  local name=$1
  shift
  [ -x "$bin/$name" ] && return
  "$@" 2>"$bin/$name.log" || say "$name is left out: $(tail -n 1 "$bin/$name.log")"
}

debian mosquitto /usr/sbin/mosquitto
debian rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server
built nats-server "$go" install "github.com/nats-io/nats-server/v2@$nats"
built mochi-peer "$go" -C "$here/mochi" install .
built floor-peer "${CC:-cc}" -O2 -o "$bin/floor-peer" "$here/floor/main.c"
if [ ! -d "$here/aedes/node_modules/aedes" ]; then
  if ! command -v npm >/dev/null; then
    say "aedes is left out: needs node and npm"
  elif ! (cd "$here/aedes" && npm ci --silent --no-audit --no-fund >"$bin/npm.log" 2>&1); then
    say "aedes is left out: $(tail -n 1 "$bin/npm.log")"
    rm -rf "$here/aedes/node_modules"
  fi
fi
echo "$PATH"
