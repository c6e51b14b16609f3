#!/usr/bin/env bash
# Runs interop_test beside the clients and workers of each older Celery, on servers of its own; `make test` has
# the newest. What an older one does not do is left out, and told with the reason after each run.
#
#   VERSIONS   which; 5.3 5.4 5.5 5.6
#   TEST_FLAGS   more flags of go test, e.g. "-run TestRetries"
#
# The exit code is 1 when one of them failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

read -ra versions <<<"${VERSIONS:-5.3 5.4 5.5 5.6}"
read -ra flags <<<"${TEST_FLAGS:-}"
scripts/setup.sh servers "${versions[@]}"
failed=()
for version in "${versions[@]}"; do
  printf '== Celery %s\n' "$version"
  skipped="$PWD/.build/skipped-$version.txt"
  : >"$skipped"
  INTEROP=required INTEROP_SKIPPED="$skipped" STALK_PYTHON="$PWD/.build/venv-$version/bin/python" \
    .build/testservers -- "${GO:-go}" test -count=1 -timeout 60m -parallel 4 "${flags[@]}" ./interop_test || failed+=("$version")
  sort -u "$skipped" | sed "s/^/not beside Celery $version: /"
done
[ "${#failed[@]}" -eq 0 ] || { printf 'failed beside Celery %s\n' "${failed[*]}" >&2; exit 1; }
