# One screen of commands. Everything is built in one configuration (release, testable), so that no target
# makes the next one build again.
SHELL := /bin/bash
FLAGS := -c release -Xswiftc -enable-testing
TRACECTL := $(shell pwd)/.build/release/tracectl
HOURS ?= 1
SEED ?= $(shell date +%s)
COMPLETIONS ?= $(HOME)/.local/share/bash-completion/completions

.PHONY: build deps demo test soak oracle bench format lint clean install install-completions

PREFIX ?= /usr/local

build: ## the library products and tracectl
	swift build $(FLAGS)

deps: ## installs what building and testing need (apt)
	Scripts/install-deps.sh

demo: deps ## records firmware booting a disk, replays it, then catches a faulty backend
	swift build $(FLAGS) --product tracectl
	Scripts/demo.sh $(TRACECTL)

test: ## all tests; the last lines are the skips by name and the counts
	Scripts/test.sh

soak: ## the long runs; durations: ORACLE_SECONDS KILL_ROUNDS CLIENT_KILL_ROUNDS QEMU_KILL_ROUNDS FLIP_ROUNDS FUZZ_RUNS
	Scripts/soak.sh

oracle: ## random instructions against the host's processor, and system cases against TCG, for HOURS (1)
	EXIT_TRACER_ORACLE_SECONDS=$$(awk 'BEGIN { print $(HOURS) * 3600 }') EXIT_TRACER_ORACLE_SEED=$(SEED) \
		Scripts/test.sh --filter 'HostOracleTests|SystemCaseTests'

bench: ## the figures of Benchmarks/README.md, as ratios measured side by side
	Scripts/bench.sh

format: ## rewrites the Swift sources in place
	swift format format --in-place --parallel --recursive Sources Tests Package.swift

lint: ## style of the Swift sources; prints findings, fails on any
	swift format lint --strict --parallel --recursive Sources Tests Package.swift

clean:
	rm -rf .build Benchmarks/.build

install: ## libnvmm for clients in C; PREFIX=/usr/local, DESTDIR=
	Scripts/install.sh $(PREFIX)

install-completions: build ## bash completions, for the current user
	mkdir -p $(COMPLETIONS)
	$(TRACECTL) --generate-completion-script bash > $(COMPLETIONS)/tracectl
