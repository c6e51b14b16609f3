#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given, one after the other.
#   scripts/fuzz.sh 10s [PACKAGE...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

time=${1:-10s}
shift || true
[ $# -gt 0 ] || set -- ./...

failed=0
# Packages without a target print only their own ok line.
while read -r package target; do
  printf '== %s %s\n' "$package" "$target"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" || failed=1
done < <(for p in $(go list "$@"); do go test -list '^Fuzz' "$p" | sed -n "s|^\(Fuzz.*\)|$p \1|p"; done)
exit "$failed"
