.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The pins hold hashes, and no address of a registry.
PIP_COMPILE := --quiet --allow-unsafe --strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host \
	--no-emit-find-links
# Two test workers, because most machines have at least two cores.
WORKERS ?= 2
# Rounds of kill -9 in a soak.
ROUNDS ?= 40

.PHONY: help setup run demo test bench soak check schema dashboards lock clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Install what run and test need: Python packages and a private TimescaleDB
	@$(BIN)/python -m app.db.embedded

$(VENV)/.installed: .requirements/dev.txt .requirements/assets.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tidegauge needs Python 3.11 or newer: make setup PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned Python packages ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r .requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .requirements/assets.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## Serve on http://127.0.0.1:8000 with a database of its own
	@exec $(BIN)/tidegauge up

demo: setup ## Serve likewise, with simulated gateways and a receiver that shows the alerts
	@exec $(BIN)/tidegauge up --demo

test: setup ## Run every test
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile

bench: setup ## Measure speeds beside raw limits, in one table; NAMES="live page" for some
	@$(BIN)/python -m tests.bench $(NAMES)

soak: setup ## Run long random tests; ROUNDS=200 rounds of kill -9, NAMES="kills requests" for some
	@$(BIN)/python -m tests.soak --rounds $(ROUNDS) $(NAMES)

check: $(VENV)/.installed ## Lint, types, import contracts, container files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/yamllint --strict .
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

schema: $(VENV)/.installed ## Write the JSON Schemas of rule files and rule tests
	@$(BIN)/python -m app.alerting.language.schema
	@$(BIN)/python -m app.alerting.trials.rule_test_schema

dashboards: $(VENV)/.installed ## Write the Grafana dashboards from grafana/generate
	@$(BIN)/python -m grafana.generate

lock: $(VENV)/.installed ## Pin the packages anew; UPGRADE=--upgrade takes the newest versions
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT \
	 && $(BIN)/python -m venv "$$folder" \
	 && "$$folder/bin/pip" install --quiet --disable-pip-version-check pip-tools \
	 && export CUSTOM_COMPILE_COMMAND="make lock" \
	 && "$$folder/bin/pip-compile" $(PIP_COMPILE) $(UPGRADE) --extra=dev --output-file=.requirements/dev.txt pyproject.toml \
	 && cp .requirements/dev.txt .requirements/runtime.txt \
	 && "$$folder/bin/pip-compile" $(PIP_COMPILE) --extra=prometheus --extra=mqtt --extra=senml --output-file=.requirements/runtime.txt pyproject.toml

clean: ## Remove everything that setup, tests and checks made, but not the data in .data/
	@rm -rf $(VENV) node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
