#!/usr/bin/env bash
# Formatting and static analysis, with pinned tools kept in .build/tools. Prints what it finds; ends with
# code 1 when something was found. What needs a network that is not there says so and is skipped.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=$PWD/.build/tools
failed=0
fail() { printf 'check: %s\n' "$*" >&2; failed=1; }

# tool NAME PACKAGE VERSION: builds it once per version. Returns 1 when it cannot be had.
tool() {
  local stamp="$tools/$1-$3-$(go env GOVERSION)"
  [ -e "$stamp" ] && [ -x "$tools/$1" ] && return 0
  mkdir -p "$tools"
  rm -f "$tools/$1"-*
  GOBIN=$tools go install "$2@$3" >&2 && touch "$stamp"
}

printf 'check: gofumpt\n'
if tool gofumpt mvdan.cc/gofumpt v0.12.0; then
  found=$("$tools/gofumpt" -l .) || fail "gofumpt ended with an error"
  [ -z "$found" ] || fail "not gofumpt-ed (make format):"$'\n'"$found"
else
  fail "gofumpt cannot be built"
fi

printf 'check: go vet\n'
go vet ./... || fail "go vet"

printf 'check: staticcheck\n'
if tool staticcheck honnef.co/go/tools/cmd/staticcheck v0.8.2; then
  "$tools/staticcheck" ./... || fail "staticcheck"
else
  fail "staticcheck cannot be built"
fi

printf 'check: go mod tidy\n'
go mod tidy -diff || fail "go.mod is not tidy"

printf 'check: python\n'
find . -name '*.py' -not -path './.build/*' -print0 | xargs -0 -r "${PYTHON:-python3}" -c '
import sys
for name in sys.argv[1:]:
    compile(open(name, encoding="utf-8").read(), name, "exec")
' || fail "a Python file does not compile"

printf 'check: govulncheck\n'
if tool govulncheck golang.org/x/vuln/cmd/govulncheck v1.8.0; then
  out=$(timeout 300 "$tools/govulncheck" ./... 2>&1)
  code=$?
  case "$code" in
    0) ;;
    3) printf '%s\n' "$out"; fail "govulncheck found vulnerable code that is called" ;;
    *)
      if grep -qiE 'vuln\.go\.dev|fetching vulnerabilities|dial tcp|proxyconnect|i/o timeout' <<<"$out" || [ "$code" -eq 124 ]; then
        printf 'check: govulncheck SKIPPED: its database (https://vuln.go.dev) cannot be reached from here\n'
      else
        printf '%s\n' "$out"; fail "govulncheck ended with code $code"
      fi
      ;;
  esac
else
  # Not this code's fault, and the next run elsewhere will have it.
  printf 'check: govulncheck SKIPPED: it cannot be downloaded here\n'
fi

[ "$failed" -eq 0 ] && printf 'check: ok\n'
exit "$failed"
