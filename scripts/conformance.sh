#!/usr/bin/env bash
# Celery's own integration suite against a worker: the Go program in interop_test/celerysuite, or CMD.
#
#   BROKER=redis|amqp  one of them; both otherwise
#   CMD=COMMAND        another worker; it sees NODE, TEST_BROKER and TEST_BACKEND (interop_test/conformance/python_worker.py)
#   ONLY="a b"         only items whose names hold one of these texts
#
# Fetches the suite with pip and makes a venv for it, both in .build/conformance, where they are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=.build/conformance
requirements=interop_test/conformance/requirements.txt
say() { printf 'conformance: %s\n' "$*" >&2; }

brokers=${BROKER:-redis amqp}
for b in $brokers; do
  [[ $b == redis || $b == amqp ]] || { say "BROKER=$b: want redis or amqp"; exit 64; }
done

scripts/setup.sh servers
python=$(command -v "${PYTHON:-python3}")
mkdir -p "$dir"
want="$("$python" -V) $(cksum <"$requirements")"
if [ "$(cat "$dir/venv/.stamp" 2>/dev/null)" != "$want" ]; then
  say "making $dir/venv"
  rm -rf "$dir/venv"
  "$python" -m venv "$dir/venv"
  "$dir/venv/bin/python" -m pip install -q --disable-pip-version-check -r "$requirements" >&2
  printf '%s\n' "$want" >"$dir/venv/.stamp" # last: a half-made folder is made again
fi
if [ ! -e "$dir/celery-5.7.0/.stamp" ]; then
  say "fetching the suite"
  rm -rf "$dir/celery-5.7.0"
  "$dir/venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: -d "$dir" celery==5.7.0 >&2
  tar -xzf "$dir/celery-5.7.0.tar.gz" -C "$dir"
  touch "$dir/celery-5.7.0/.stamp"
fi

if [ -z "${CMD:-}" ]; then
  "${GO:-go}" build -o "$dir/celerysuite" ./interop_test/celerysuite
  CMD='"$STALK_ROOT/.build/conformance/celerysuite" worker -b "$TEST_BROKER" --result-backend "$TEST_BACKEND" -n "$NODE" -c 1 -l INFO --config "$STALK_ROOT/interop_test/conformance/settings.yaml"'
fi
amqp=false
[[ $brokers == *amqp* ]] && amqp=true
STALK_CMD=$CMD exec .build/testservers -amqp=$amqp -shards 9 -- "$python" -u scripts/conformance.py
