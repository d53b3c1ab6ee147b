# SPDX-License-Identifier: Apache-2.0

# Two commands do all the set-up: `make demo` and `make test`. Everything they need is built into bin/
# from Go modules, once, and again only when its pins change.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
BIN := $(CURDIR)/bin
export PATH := $(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help build stack stack-all demo test test-real generate manifests verify vet lint bench fuzz clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/korthweb
	@go build -trimpath -o bin/korthweb .

stack: ## Build the programs of a real control plane into bin/stack, where not current
	@go run ./hack/stack/build

stack-all: ## Build those that only tests use too
	@go run ./hack/stack/build --all

demo: stack build ## Run the whole pipeline on an embedded control plane; ONCE=1 ends when all is ready
	@go run ./hack/demo $(if $(ONCE),--once)

test: ## Run every check and test but those of test-real: generated files, vet, lint, unit, golden, envtest, istiod, e2e
	@hack/test.sh

test-real: stack-all ## Test what is rendered with real Orthanc, PostgreSQL, dcmtk, cert-manager and Traefik; installs Debian packages
	@hack/packages.sh
	@go test ./test/real -count=1 -timeout 20m -v | grep --line-buffered -vE '^ *=== '

# Tools of the development itself, pinned in hack/tools/go.mod.
bin/controller-gen bin/golangci-lint: hack/tools/go.mod hack/tools/go.sum
	@echo "building $@"
	@cd hack/tools && go build -o $(BIN)/ $(if $(findstring lint,$@),github.com/golangci/golangci-lint/v2/cmd/golangci-lint,sigs.k8s.io/controller-tools/cmd/controller-gen)
	@touch $@

generate: bin/controller-gen ## Generate deepcopy functions
	@controller-gen object:headerFile=hack/boilerplate.go.txt paths=./api/...

manifests: bin/controller-gen ## Generate the CRDs and the controller's role
	@controller-gen crd paths=./api/... output:crd:dir=config/crd/bases
	@controller-gen rbac:roleName=korthweb-controller paths=./controllers/... output:rbac:dir=config/rbac

verify: generate manifests ## Fail when committed generated files are not current
	@changed=$$(git status --porcelain -- api config/crd/bases config/rbac); \
	if [ -n "$$changed" ]; then git diff -- api config/crd/bases config/rbac; echo "$$changed"; \
		echo "generated files are not current: run make generate manifests, and commit the result"; exit 1; fi

vet:
	@go vet ./...

lint: bin/golangci-lint ## Run golangci-lint
	@golangci-lint run --allow-parallel-runners ./...

bench: stack build ## Measure rendering, and 1,000 tenants on the real apiserver
	@go test ./internal/render -run '^$$' -bench . -benchtime 2s
	@go run ./test/bench

fuzz: ## Run each fuzz target for a minute
	@for target in tenant:FuzzLoad tenant:FuzzValidate render:FuzzPatch render:FuzzEncode; do \
		go test ./internal/$${target%%:*} -run '^$$' -fuzz "^$${target##*:}$$" -fuzztime 60s -fuzzminimizetime 10x; done

clean: ## Remove all that was built
	@rm -rf bin .cache
