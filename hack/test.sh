#!/usr/bin/env bash
# Runs every check and test, what is quick to fail first.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (after %ds)\n' "$1" "$SECONDS"; }

step "generated files"
make --no-print-directory verify
step "tests that the docs name"
for name in $(grep -rohE --include='*.md' '`(Test|Fuzz|Benchmark)[A-Za-z0-9_]+`' README.md docs | tr -d '`' | sort -u); do
  grep -rqE --include='*_test.go' "^func $name\(" . || { echo "the docs name $name, which is no test" >&2; missing=1; }
done
[ -z "${missing-}" ]
step "vet"
make --no-print-directory vet
step "lint"
make --no-print-directory lint
step "control plane"
make --no-print-directory stack-all
step "unit, golden and envtest"
go test $(go list ./... | grep -vE '/test/(e2e|real)$')
step "races in the renderer"
# TestMistakes goes over all variants, which has no more goroutines than TestConcurrentUse. TestPatchMemory measures memory,
# of which the race detector takes some itself.
go test -race ./internal/render -skip 'TestMistakes|TestPatchMemory'
step "istiod, in a module of its own"
(cd test/istio && go vet ./... && go test -count=1 ./...) # what it renders is no input that the test cache knows
step "end to end"
# The tests mostly wait, so more of them run at a time than there are cores.
go test ./test/e2e -count=1 -parallel 4 -timeout 45m -v | grep --line-buffered -vE '^ *=== '
step "done"
