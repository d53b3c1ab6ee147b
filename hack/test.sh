#!/usr/bin/env bash
# Runs every check and test in order of cost, so that what is quick to fail fails first.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (%ds)\n' "$1" "$SECONDS"; }

step "control plane"
make --no-print-directory stack
step "generated files"
make --no-print-directory verify
step "vet"
make --no-print-directory vet
step "lint"
make --no-print-directory lint
step "unit, golden and envtest"
go test $(go list ./... | grep -v /test/e2e)
step "end to end"
go test ./test/e2e/... -count=1 -timeout 30m -v -run . 2>&1 | grep -vE '^\s*(=== (RUN|PAUSE|CONT|NAME))' 
step "done"
