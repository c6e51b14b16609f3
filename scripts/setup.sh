#!/usr/bin/env bash
# Makes sure that what the real-server tests need is here, and installs what is missing:
#   servers   redis-server, rabbitmq-server (apt)
#   venv      .build/venv with Celery and Django, from pyfixtures/requirements-interop.txt
#   monitors  Chromium (apt), and in .build/venv Flower and django-celery-beat, from pyfixtures/requirements-monitors.txt
#   debootstrap  what scripts/brokers.sh makes folders with (apt)
#   5.3 ...   .build/venv-5.3 with that Celery instead, from pyfixtures/requirements-5.3.txt, and what monitors needs
#
#   scripts/setup.sh [servers] [venv] [monitors] [debootstrap] [5.N]...     nothing named: the first three
#
# Quick when all is there. Services that apt brings are not started: the tests start private servers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# apt_install PACKAGE... as root, without starting any service.
apt_install() {
  local sudo=() policy=/usr/sbin/policy-rc.d made='' status=0
  have apt-get || die "missing: $*. This system has no apt-get; install them yourself and run this again (without them: go test ./...)."
  if [ "$(id -u)" -ne 0 ]; then
    have sudo && sudo -n true 2>/dev/null || die "missing: $*. Not root here; run: sudo apt-get install -y --no-install-recommends $*"
    sudo=(sudo -n)
  fi
  say "installing $*"
  # Debian asks this file before it starts a service at installation; 101 means "not allowed".
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
    made=yes
    trap '"${sudo[@]}" rm -f "$policy"' EXIT # also when interrupted
  fi
  local install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@")
  # The lists may be missing or old; asking for new ones takes longer than trying.
  "${install[@]}" >&2 || { "${sudo[@]}" apt-get update -q >&2 && "${install[@]}" >&2; } || status=$?
  [ -z "$made" ] || { "${sudo[@]}" rm -f "$policy"; trap - EXIT; }
  [ "$status" -eq 0 ] || die "apt-get could not install $*"
}

servers() {
  local missing=()
  have redis-server || missing+=(redis-server)
  # In /usr/sbin, which is not in everybody's PATH.
  have rabbitmq-server || [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
  [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
}

# venv [VERSION] makes the folder of Python packages, unless it is there as it should be.
venv() {
  local requirements=pyfixtures/requirements-interop.txt dir=.build/venv python want
  if [ $# -gt 0 ]; then
    mkdir -p .build
    dir=.build/venv-$1
    # That Celery as its own file has it, and what else the tests import as beside the newest.
    { cat "pyfixtures/requirements-$1.txt"; echo 'celery[redis]'; grep -E '^(Django|Pillow|brotli|cryptography)==' "$requirements"; cat pyfixtures/requirements-monitors.txt; } >"$dir.txt"
    requirements=$dir.txt
  fi
  python=$(command -v "${PYTHON:-python3}") || { apt_install python3 python3-venv; python=$(command -v python3); }
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "$python is older than 3.10; name another: PYTHON=python3.12 $0"
  want="$("$python" -V) $(cksum <"$requirements")"
  [ "$(cat "$dir/.stamp" 2>/dev/null)" != "$want" ] || return 0
  "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
  say "making $dir"
  rm -rf "$dir"
  mkdir -p .build
  "$python" -m venv "$dir"
  "$dir/bin/python" -m pip install -q --disable-pip-version-check -r "$requirements" >&2
  printf '%s\n' "$want" >"$dir/.stamp" # last: a half-made folder is made again
}

# browser is what the tests of monitors look at pages with.
browser() {
  local browser
  for browser in chromium-headless-shell chromium chromium-browser google-chrome; do # as interop_test looks for them
    have "$browser" && return
  done
  # Chromium without its window needs fewer packages; not every release has it.
  (apt_install chromium-headless-shell) || apt_install chromium
}

# monitors adds to the folder that venv makes what the tests of monitors import; the demo does without.
monitors() {
  local requirements=pyfixtures/requirements-monitors.txt dir=.build/venv want
  browser
  venv
  want="$(cat "$dir/.stamp") $(cksum <"$requirements")"
  [ "$(cat "$dir/.stamp-monitors" 2>/dev/null)" != "$want" ] || return 0
  say "adding Flower and django-celery-beat to $dir"
  "$dir/bin/python" -m pip install -q --disable-pip-version-check -r pyfixtures/requirements-interop.txt -r "$requirements" >&2
  printf '%s\n' "$want" >"$dir/.stamp-monitors"
}

[ $# -gt 0 ] || set -- servers venv monitors
for part in "$@"; do
  case "$part" in
    servers | venv | monitors) "$part" ;;
    debootstrap) have debootstrap || apt_install debootstrap ;;
    5.[0-9]*)
      [ -e "pyfixtures/requirements-$part.txt" ] || die "there is no pyfixtures/requirements-$part.txt"
      browser
      venv "$part"
      ;;
    *) die "\"$part\" is neither servers nor venv nor monitors nor a version of Celery" ;;
  esac
done
