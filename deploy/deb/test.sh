#!/usr/bin/env bash
# test.sh PACKAGE.deb: puts the package in the place of a running Mosquitto of Debian 12 and takes it out again, in a
# system of its own (debootstrap, namespaces), and looks whether sessions, queued and retained messages, passwords and
# rules stay. Needs root and debootstrap; MIRROR=URL takes another mirror than its own. ROOT=DIR keeps the system for the next time.
set -euo pipefail
[ -z "${TRACE:-}" ] || set -x
if [ "${1:-}" != inside ]; then
  package=$(realpath "$1")
  root=${ROOT:-$(mktemp -d)}
  if [ ! -x "$root/usr/bin/dpkg" ]; then
    debootstrap --variant=minbase --include=mosquitto,mosquitto-clients,procps,sysvinit-utils,init-system-helpers,openssl \
      bookworm "$root" ${MIRROR:+"$MIRROR"} >/dev/null
  fi
  work=$(mktemp -d) # over the system, so that it stays as it is
  trap 'rm -rf "$work"; [ -n "${ROOT:-}" ] || rm -rf "$root"' EXIT
  cp "$package" "$work/noctule.deb"
  cp "$0" "$work/test.sh"
  mkdir "$work/tmpfs"
  exec_inside='
    mount -t tmpfs none "$2/tmpfs" && mkdir "$2/tmpfs/upper" "$2/tmpfs/scratch" "$2/tmpfs/root"
    mount -t overlay none -o "lowerdir=$1,upperdir=$2/tmpfs/upper,workdir=$2/tmpfs/scratch" "$2/tmpfs/root"
    cd "$2/tmpfs/root" && cp "$2/noctule.deb" "$2/test.sh" tmp/
    mount -t proc none proc && mount --bind /dev dev && ip link set lo up
    exec chroot . bash /tmp/test.sh inside'
  unshare --mount --pid --net --fork --kill-child bash -euc "$exec_inside" test "$root" "$work"
  exit
fi

export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
say() { echo "== $*"; }
die() { echo "FAILED: $*" >&2; cat /tmp/*.log >&2 || true; tail -n 20 /var/log/mosquitto/mosquitto.log >&2 || true; exit 1; }
args=(-h 127.0.0.1 -u ann -P secret)
up() { # waits for the broker that answers, and says which
  for _ in $(seq 150); do
    if mosquitto_sub "${args[@]}" -t '$SYS/broker/version' -C 1 -W 1 2>/dev/null; then return; fi
    sleep 0.1
  done
  die "no broker answers"
}
program() { # what runs
  pid=$(pidof mosquitto noctule | awk '{print $1}') || die "no broker runs"
  readlink "/proc/$pid/exe"
}
runs() { # waits until that program runs
  for _ in $(seq 150); do
    [ "$(program 2>/dev/null || true)" = "$1" ] && return
    sleep 0.1
  done
  die "$(program) runs, not $1"
}
retained() { mosquitto_sub "${args[@]}" -t 'keep/#' -W 2 -F '%t %p' 2>/dev/null | sort || true; }
session() { mosquitto_sub "${args[@]}" -i "$1" -c -q 1 -t "queue/$1" -W 2 2>/dev/null || true; }
holds() { # messages are as they were put there
  [ "$(retained | wc -l)" = 63 ] || die "$1: $(retained | wc -l) of 63 retained messages"
  [ "$(retained | head -n 1)" = "keep/01 value 01" ] || die "$1: $(retained | head -n 1)"
  [ "$(session "$2" | wc -l)" = 20 ] || die "$1: the queue of $2 is not whole"
  if mosquitto_pub -h 127.0.0.1 -u ann -P wrong -t x -m y 2>/dev/null; then die "$1: a wrong password logs in"; fi
  [ -z "$(mosquitto_sub "${args[@]}" -t 'hidden/#' -C 1 -W 1 2>/dev/null)" ] || die "$1: the ACL does not hold"
}

say "Mosquitto as an operator has it"
printf '#!/bin/sh\nexit 0\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d # services start without an init
mkdir -p /run/mosquitto && chown mosquitto /run/mosquitto
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
  -keyout /etc/mosquitto/certs/key.pem -out /etc/mosquitto/certs/cert.pem 2>/dev/null
chown root:mosquitto /etc/mosquitto/certs/key.pem && chmod 640 /etc/mosquitto/certs/key.pem
touch /etc/mosquitto/passwd && mosquitto_passwd -b /etc/mosquitto/passwd ann secret
mosquitto_passwd -b /etc/mosquitto/passwd root secret
printf 'user ann\ntopic readwrite keep/#\ntopic readwrite queue/#\ntopic read $SYS/#\n\nuser root\ntopic readwrite #\n' \
  >/etc/mosquitto/acl
chown mosquitto /etc/mosquitto/passwd /etc/mosquitto/acl && chmod 600 /etc/mosquitto/passwd /etc/mosquitto/acl
cat >/etc/mosquitto/conf.d/site.conf <<END
listener 1883
listener 8883
certfile /etc/mosquitto/certs/cert.pem
keyfile /etc/mosquitto/certs/key.pem
password_file /etc/mosquitto/passwd
acl_file /etc/mosquitto/acl
END
sed -i '/^pid_file/d' /etc/mosquitto/mosquitto.conf # without systemd the init script writes it, as root
service mosquitto start >/dev/null
say "$(up)"
runs /usr/sbin/mosquitto
for i in $(seq -w 63); do mosquitto_pub "${args[@]}" -r -q 1 -t "keep/$i" -m "value $i"; done
mosquitto_pub -h 127.0.0.1 -u root -P secret -r -t hidden/x -m secret
for s in one two three; do
  session "$s"
  for i in $(seq 20); do echo "$i"; done | mosquitto_pub "${args[@]}" -q 1 -t "queue/$s" -l
done

say "noctule in its place"
dpkg-deb -x /tmp/noctule.deb /tmp/before
check() { /tmp/before/usr/sbin/noctule check /etc/mosquitto/mosquitto.conf; }
chown root:root /etc/mosquitto/certs/key.pem && chmod 600 /etc/mosquitto/certs/key.pem # as many leave it
advice=$(check 2>&1) && die "check does not see that the key cannot be read"
fix=$(sed -n 's/.*\(chown root:mosquitto [^ ]* && chmod 640 [^ ;.,]*key\.pem\).*/\1/p' <<<"$advice" | head -1)
[ -n "$fix" ] || die "check does not say what to do about the key: $advice"
sh -c "$fix"
check || die "check does not like the configuration"
dpkg -i /tmp/noctule.deb >/tmp/install.log 2>&1 || { cat /tmp/install.log; die "the package is not installed"; }
grep -q "FAILED" /tmp/install.log && die "$(cat /tmp/install.log)"
runs /usr/sbin/noctule
say "$(up)"
holds "after the installation" one
openssl s_client -connect 127.0.0.1:8883 </dev/null 2>/dev/null | grep -q "CN = localhost" || die "no TLS"

say "an upgrade of Mosquitto's package in between"
dpkg -i /var/cache/apt/archives/mosquitto_*.deb >/tmp/upgrade.log 2>&1 || { cat /tmp/upgrade.log; die "no upgrade"; }
runs /usr/sbin/noctule
up >/dev/null
holds "after the upgrade" two
[ -x /usr/sbin/mosquitto.distrib ] || die "Mosquitto's program is gone"
mosquitto_pub "${args[@]}" -r -q 1 -t keep/01 -m "value 01"
for i in $(seq 20); do echo "again $i"; done | mosquitto_pub "${args[@]}" -q 1 -t queue/one -l

say "an upgrade of noctule's"
dpkg -i /tmp/noctule.deb >/tmp/again.log 2>&1 || { cat /tmp/again.log; die "no upgrade of noctule"; }
runs /usr/sbin/noctule
up >/dev/null

say "Mosquitto again"
dpkg --remove noctule >/tmp/remove.log 2>&1 || { cat /tmp/remove.log; die "the package is not removed"; }
[ -e /usr/sbin/mosquitto.distrib ] && die "the diversion is left"
runs /usr/sbin/mosquitto
say "$(up)"
holds "after the removal" three
[ "$(session one | head -n 1)" = "again 1" ] || die "what noctule queued is lost"
dpkg --verify mosquitto | grep -v ' c /' && die "Mosquitto's package has been changed"

say "noctule once more, with what Mosquitto has now"
for i in $(seq 20); do echo "$i"; done | mosquitto_pub "${args[@]}" -q 1 -t queue/two -l
dpkg -i /tmp/noctule.deb >/tmp/once.log 2>&1 || { cat /tmp/once.log; die "the package is not installed again"; }
runs /usr/sbin/noctule
up >/dev/null
holds "after the second installation" two
say "nothing was lost"
service mosquitto stop >/dev/null
