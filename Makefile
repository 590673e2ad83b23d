# Seawall. `make` alone prints this help.
.DEFAULT_GOAL := help
SHELL := /bin/bash

GO            ?= go
VERSION       := 0.1.0
# The compiler is part of the filter's bytes: it is fetched where another is installed.
WASM_GO       := go1.26.8
GOLANGCI      := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
WAZERO        := github.com/tetratelabs/wazero/cmd/wazero@v1.12.0
TOOLS         := $(CURDIR)/bin/tools

.PHONY: help build wasm demo test test-wasm check bench generate format tidy lint clean-tree fuzz golden

help: ## this help
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-11s %s\n", $$1, $$2}'

build: wasm bin/seawall ## bin/seawall and bin/filter.wasm

# The same bytes on any machine: no paths, no VCS stamp, no build id. Built and
# compared each time: go's cache knows better than dates what is old, and a stale
# copy would be embedded without a word.
wasm: ## the filter alone
	@mkdir -p bin
	GOTOOLCHAIN=$(WASM_GO) GOOS=wasip1 GOARCH=wasm GOWASM= GOEXPERIMENT= GOFLAGS= CGO_ENABLED=0 $(GO) build -buildmode=c-shared -trimpath -buildvcs=false -ldflags='-s -w -buildid=' -o bin/filter.wasm ./filter
	@cmp -s bin/filter.wasm filter/module/dist/filter.wasm || { mkdir -p filter/module/dist && cp bin/filter.wasm filter/module/dist/filter.wasm; }

.PHONY: bin/seawall
bin/seawall: wasm
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w -X main.version=$(VERSION)' -o $@ ./controlplane/cmd/seawall

demo: build ## the payment service behind a real Envoy; breaks its world act by act
	@bin/seawall demo

test: build test-wasm ## everything, in a real Envoy too (SEAWALL_ENVOY=off leaves that out, and says so)
	./testenv/run-tests.sh

test-wasm: wasm $(TOOLS)/wazero ## the decision core's tests once more, compiled to wasip1
	PATH="$(TOOLS):$$PATH" GOWASIRUNTIME=wazero GOOS=wasip1 GOARCH=wasm $(GO) test -exec "$$($(GO) env GOROOT)/lib/wasm/go_wasip1_wasm_exec" ./filter/engine/... ./filter/contract/...

check: generate format tidy lint test clean-tree ## what must hold before a push

bench: build ## the figures of docs/performance.md, paired in one run
	$(GO) run ./bench

generate: ## generated files
	$(GO) generate ./...

format: ## gofmt
	@gofmt -l -w $$(git ls-files -co --exclude-standard '*.go')

tidy: ## go.mod and go.sum
	$(GO) mod tidy

lint: wasm $(TOOLS)/golangci-lint ## golangci-lint and vet, for this machine and for wasip1
	$(TOOLS)/golangci-lint run ./...
	GOOS=wasip1 GOARCH=wasm $(GO) vet ./filter/...

clean-tree:
	@if [ -n "$$(git status --porcelain)" ]; then echo 'the tree is not clean:'; git status --short; exit 1; fi

golden: ## rewrites golden files; look at the diff
	$(GO) test ./controlplane/policy ./controlplane/compile ./controlplane/render ./controlplane/xds/... -update
	$(GO) test ./envoy -run Golden -update

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) $(GO) install $(GOLANGCI)

$(TOOLS)/wazero:
	GOBIN=$(TOOLS) $(GO) install $(WAZERO)
