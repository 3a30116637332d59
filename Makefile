# QBot. `make` alone shows what there is. Nothing needs to be activated: every target uses .venv by its path.

SHELL := /bin/bash
.DEFAULT_GOAL := help
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_STAMP := $(VENV)/.uv-$(UV_VERSION)
# Beside the environment, not in it: mutmut brings setproctitle, with which Celery would rename its processes.
MUTMUT := $(VENV)/mutation
COVERED_BY := $(addprefix tests/test_,$(addsuffix .py, \
	risk risk_checks risk_words risk_properties sizing account cli_account audit store_ledger store_trades \
	execution fence flatten protection))
ARGS ?=
# Where an image sets it, every process compiles every module anew, and takes three times as long to start.
unexport PYTHONDONTWRITEBYTECODE
# The first of these that is Python 3.11 or 3.12; or say `make PYTHON=/path/to/python3.12 …`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 && { echo $$p; break; }; done)

.PHONY: help setup demo up test fuzz check contract bench chaos simulate coverage mutate lock clean

help: ## show this
	@echo "QBot: make <target>"
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  %-8s %s\n", $$1, $$2}'
	@echo 'Options of the demo: make demo ARGS="--minutes 5"'

setup: $(STAMP) ## install everything into .venv (needs Python 3.11 or 3.12; done by the others when needed)

demo: $(STAMP) ## watch QBot trade a replayed market; Ctrl-C ends it
	@$(BIN)/qbot demo $(ARGS)

up: $(STAMP) ## run QBot: at Alpaca with keys in .env, else at its own paper exchange
	@$(BIN)/qbot up $(ARGS)

test: $(STAMP) ## run all tests; some by ARGS="tests/test_risk.py -k cap"
	@$(BIN)/python -m pytest -n auto $(ARGS)

fuzz: $(STAMP) ## every bad value under every key, and new examples of every rule (minutes); `make test` tries the same few
	@QBOT_FUZZ=whole $(BIN)/python -m pytest -n auto --dist loadscope tests/test_fuzz_inputs.py $(ARGS)
	@QBOT_FUZZ=whole $(BIN)/python -m pytest -n auto -m hypothesis --ignore tests/test_fuzz_inputs.py $(ARGS)

check: $(STAMP) ## style, types, layers, and whether docs/contract is current
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m qbot.contract.exports --check

contract: $(STAMP) ## write docs/contract again, after a change of qbot/contract
	@$(BIN)/python -m qbot.contract.exports

bench: $(STAMP) ## measure start-up, a trading cycle, the exchange, a stop, CLOSE_ALL, manual orders, forecasts, training and a backfill
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: $(STAMP) ## ten rounds of every fault against the real stack (an hour or more); ARGS="--only redis --rounds 1"
	@$(BIN)/python -m tests.chaos $(ARGS)

simulate: $(STAMP) ## play made-up trading days with faults; ARGS="--days 100000 --seed 7", ARGS="--replay 12345"
	@$(BIN)/python -m tests.simulation $(ARGS)

coverage: $(STAMP) ## every line and branch of gate, ledger and execution, by their tests alone (minutes)
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest $(COVERED_BY)
	@$(BIN)/python -m coverage report

mutate: $(MUTMUT)/.installed ## change the gate in every small way: do its tests notice? (minutes)
	@PYTHONPATH=$(abspath $(MUTMUT)) $(BIN)/python -m tests.mutate $(ARGS)

lock: $(UV_STAMP) ## resolve pyproject.toml into the locks again
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" --quiet -o requirements.lock
	@$(BIN)/uv pip compile --group pyproject.toml:mutation -c requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet -o requirements-mutation.lock

clean: ## remove .venv, caches and the data of the demo (that of `make up` stays)
	rm -rf $(VENV) .qbot/demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

$(MUTMUT)/.installed: $(STAMP) requirements-mutation.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --target $(MUTMUT) --require-hashes -r requirements-mutation.lock
	@touch $@

$(STAMP): $(UV_STAMP) pyproject.toml requirements.lock
	@echo "Installing from requirements.lock into $(VENV)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline -e .
	@touch $@

$(UV_STAMP):
	@if [ -z "$(PYTHON)" ]; then \
		echo "QBot needs Python 3.11 or 3.12; found: $$(python3 --version 2>&1)." \
			"Install one, or say: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || { \
		echo "QBot needs Python 3.11 or 3.12; $(PYTHON) is: $$($(PYTHON) --version 2>&1 | tail -n 1)" >&2; exit 1; }
	@$(BIN)/python -c 'import pip' >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
		rm -rf $(VENV); echo "$(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt install" \
			"$$($(PYTHON) -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@
