# GNU make. Everything made lands in bin/ and .build/, which `make clean` removes.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
PACKAGES ?= ./...
TEST_FLAGS ?=
FUZZTIME ?= 10s
PYTHON ?= python3
export PYTHON

# The tag leaves out what urfave/cli needs to write manual pages.
## build: bin/stalk
.PHONY: build
build:
	CGO_ENABLED=0 $(GO) build -trimpath -tags urfave_cli_no_docs -o bin/stalk .

## demo: a Django gallery whose thumbnails are made by Stalk; Ctrl-C ends it (ONCE=1: ends by itself)
.PHONY: demo
demo: build
	@scripts/setup.sh venv
	@$(GO) build -o .build/photo ./demo/photo
	@exec .build/venv/bin/python demo/run.py $(if $(filter-out 0,$(ONCE)),--once)

# -parallel: the tests beside Python mostly wait.
## test: everything with the race detector, on real servers that it starts (PACKAGES=./worker TEST_FLAGS="-run X")
.PHONY: test
test: .build/testservers
	@scripts/setup.sh
	INTEROP=required .build/testservers -- $(GO) test -race -timeout 30m -parallel 4 $(TEST_FLAGS) $(PACKAGES)

## test-versions: interop_test beside Celery 5.3, 5.4, 5.5 and 5.6 (VERSIONS="5.3" TEST_FLAGS="-run X")
.PHONY: test-versions
test-versions: .build/testservers
	@VERSIONS="$(VERSIONS)" TEST_FLAGS="$(TEST_FLAGS)" scripts/versions.sh

## cluster: a RabbitMQ cluster of three nodes loses each of them, and is upgraded, under load
.PHONY: cluster
cluster: .build/testservers
	@scripts/setup.sh
	STALK_CLUSTER=1 INTEROP=required .build/testservers -- $(GO) test -race -timeout 15m -v -run TestAClusterLosesItsNodes $(TEST_FLAGS) ./interop_test

## matrix: drivers, interop, soak and conformance on other RabbitMQs, Redis 8 and Valkey (VERSIONS="rabbitmq-4.0 redis-8" PARTS="interop" TASKS= KILLS=)
.PHONY: matrix
matrix: .build/testservers
	@scripts/setup.sh
	@PARTS="$(PARTS)" TEST_FLAGS="$(TEST_FLAGS)" TASKS="$(TASKS)" KILLS="$(KILLS)" $(PYTHON) scripts/matrix.py $(VERSIONS)

## unit: what runs without servers and Python
.PHONY: unit
unit:
	$(GO) test -race ./...

## check: gofumpt, go vet, staticcheck, go mod tidy, govulncheck
.PHONY: check
check:
	@scripts/check.sh

## format: gofumpt over all Go files
.PHONY: format
format:
	git ls-files '*.go' | xargs $(GO) run mvdan.cc/gofumpt@v0.12.0 -w

## conformance: Celery's own integration suite against Stalk (BROKER=redis|amqp takes one, CMD= another worker)
.PHONY: conformance
conformance: .build/testservers
	@BROKER="$(BROKER)" CMD='$(subst ','\'',$(CMD))' ONLY="$(ONLY)" scripts/conformance.sh

## soak: 10,000 tasks and 100 kills of workers on each broker (BROKER=redis|amqp|rpc TASKS= KILLS= PYTHON_KILLS= SEED=; CELERY=1: Celery too)
.PHONY: soak
soak: .build/testservers
	@scripts/setup.sh servers venv
	@BROKER="$(BROKER)" TASKS="$(TASKS)" KILLS="$(KILLS)" PYTHON_KILLS="$(PYTHON_KILLS)" SEED="$(SEED)" CELERY="$(CELERY)" SOAK=1 INTEROP=required \
		.build/testservers -- $(GO) test -count=1 -v -timeout 90m -run '^TestSoak$$' ./interop_test

## fuzz: every fuzz target for FUZZTIME (10s)
.PHONY: fuzz
fuzz:
	@scripts/fuzz.sh $(FUZZTIME)

## bench: Stalk beside Celery prefork, and the limit; rewrites bench/latest.json, ratios.svg and the tables in the docs (BENCH_FLAGS="--quick --only redis,rates")
.PHONY: bench
bench: build .build/testservers
	@scripts/setup.sh servers venv
	@$(GO) build -o .build/photo ./demo/photo
	@$(GO) build -o .build/thumbs ./bench/thumbs
	@$(GO) build -o .build/benchclient ./bench/client
	@.build/testservers -- .build/venv/bin/python bench/bench.py $(BENCH_FLAGS)

## contact-sheet: thumbnails of all kinds beside Pillow's, and their difference: .build/contact-sheet.png, to be looked at
.PHONY: contact-sheet
contact-sheet:
	@scripts/setup.sh venv
	@$(GO) build -o .build/photo ./demo/photo
	@$(GO) build -o .build/thumbs ./bench/thumbs
	@.build/venv/bin/python bench/contact_sheet.py

## strain: 100,000 tasks held, 100 queues, 1 MB messages, a soak; within bounds (MINUTES=60 STRAIN_FLAGS="--only eta --on redis")
.PHONY: strain
strain: build .build/testservers
	@scripts/setup.sh servers venv
	@$(GO) build -o .build/benchclient ./bench/client
	@.build/testservers -- .build/venv/bin/python bench/strain.py --minutes $(or $(MINUTES),2) $(STRAIN_FLAGS)

## setup: installs redis-server, rabbitmq-server, Chromium and .build/venv where they are missing
.PHONY: setup
setup:
	@scripts/setup.sh

## clean: removes bin/ and .build/
.PHONY: clean
clean:
	rm -rf bin .build

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST) | sed 's/: /\t/' | expand -t 15

.PHONY: .build/testservers
.build/testservers:
	@mkdir -p .build
	@$(GO) build -o $@ ./internal/testservers/cmd
