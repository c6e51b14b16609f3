#!/usr/bin/env bash
# Brokers of other versions, each Debian's in a folder of its own below .build/brokers. Names what finds them:
#
#   env $(scripts/brokers.sh rabbitmq-4.0 valkey-9) .build/testservers -- CMD
#
#   rabbitmq-4.0, redis-8, valkey-8   of Debian 13 (trixie)
#   rabbitmq-4.3, valkey-9            of Debian sid, where versions move: ask the running server
#
# Makes a folder that is missing: about a minute and 400 MB, as root. Nothing is mounted here; internal/testservers
# mounts what a server needs where only that server sees it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'brokers: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# folder SUITE makes .build/brokers/SUITE and prints its path.
folder() {
  local dir=$PWD/.build/brokers/$1
  if [ ! -e "$dir/.stamp" ]; then
    [ "$(id -u)" -eq 0 ] || die "needs root: debootstrap makes, and servers are started in, a folder that holds a system"
    scripts/setup.sh debootstrap
    say "making $dir"
    rm -rf --one-file-system "$dir"
    mkdir -p "$dir"
    debootstrap --variant=minbase --include=rabbitmq-server,redis-server,valkey-server "$1" "$dir" "${MIRROR:-http://deb.debian.org/debian}" >"$dir.log" 2>&1 ||
      die "debootstrap $1 failed: $(tail -n 3 "$dir.log")"
    cp /etc/hosts "$dir/etc/hosts" # RabbitMQ must find localhost
    touch "$dir/.stamp"            # last: a half-made folder is made again
  fi
  printf '%s\n' "$dir"
}

[ $# -gt 0 ] || die "usage: $0 rabbitmq-4.0|rabbitmq-4.3|redis-8|valkey-8|valkey-9..."
for version in "$@"; do
  case "$version" in
    rabbitmq-4.0) suite=trixie variable=STALK_RABBITMQ_ROOT server='' ;;
    rabbitmq-4.3) suite=sid variable=STALK_RABBITMQ_ROOT server='' ;;
    redis-8) suite=trixie variable=STALK_REDIS_ROOT server=redis-server ;;
    valkey-8) suite=trixie variable=STALK_REDIS_ROOT server=valkey-server ;;
    valkey-9) suite=sid variable=STALK_REDIS_ROOT server=valkey-server ;;
    *) die "\"$version\" is not one of rabbitmq-4.0, rabbitmq-4.3, redis-8, valkey-8, valkey-9" ;;
  esac
  dir=$(folder "$suite")
  [[ $dir != *[[:space:]]* ]] || die "the path of this checkout holds a space: $dir"
  printf '%s=%s\n' "$variable" "$dir"
  [ -z "$server" ] || printf 'STALK_REDIS_SERVER=%s\n' "$server"
done
