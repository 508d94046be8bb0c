# One command per intention; CI calls nothing else. A target builds the environment that it needs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first Python that is new enough.
PYTHON ?= $(firstword $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python; done))
# `--build-constraint` came with 25.3; it pins the build backend too.
PIP_RANGE := pip>=25.3,<27
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# More than there are cores: tests wait for servers most of their time.
PYTEST := $(BIN)/pytest -n 4 --dist worksteal

RUNTIME := .venv/.runtime
DEV := .venv/.dev

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(RUNTIME): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 1; }
	$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(PIP) install '$(PIP_RANGE)'
	$(PIP) install --constraint constraints.txt --build-constraint constraints.txt --editable .
	@touch $@

$(DEV): $(RUNTIME)
	$(PIP) install --constraint constraints.txt --group dev
	@touch $@

.PHONY: install
install: $(DEV) ## the environment for development, in .venv

.PHONY: demo
demo: $(RUNTIME) ## Tidelog at work on a cluster of its own, in your terminal (ARGS="--once" to end by itself)
	$(BIN)/python tools/demo.py $(ARGS)

.PHONY: servers
servers: $(DEV) ## the servers of the tests and the helm command, built once (some ten minutes) where Go is
	@if [[ -n "$${KUBEBUILDER_ASSETS:-}$${CI:-}" ]] || command -v go >/dev/null; then \
		$(BIN)/python tests/servers/kubernetes_servers.py build; \
	else \
		echo "No Go and no KUBEBUILDER_ASSETS: tests on Kubernetes servers will be skipped." >&2; \
	fi
	@if [[ -n "$${CI:-}" ]] || command -v go >/dev/null; then \
		$(BIN)/python tests/servers/oci_registry.py build; \
	else \
		echo "No Go: tests on an OCI registry will be skipped." >&2; \
	fi
	@if [[ -n "$${CI:-}" ]] || command -v go >/dev/null; then \
		$(BIN)/python -m tests.oracles.helm; \
	else \
		echo "No Go: charts will not be held against helm." >&2; \
	fi

.PHONY: test
test: $(DEV) servers ## all tests but the soak (ARGS="-k name" for some)
	$(PYTEST) $(ARGS)

.PHONY: soak
soak: $(DEV) servers ## all tests, with larger numbers: takes long
	TIDELOG_SOAK=1 $(PYTEST) -m "soak or not soak" --timeout 3600 $(ARGS)

.PHONY: test-wheel
test-wheel: $(DEV) servers ## the tests against the built wheel, in an environment of its own
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --no-isolation
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python -m venv .venv-wheel
	.venv-wheel/bin/python -m pip --disable-pip-version-check --quiet install '$(PIP_RANGE)'
	.venv-wheel/bin/python -m pip --disable-pip-version-check --quiet install \
		--constraint constraints.txt --group dev dist/*.whl
	TIDELOG_TEST_INSTALLED=1 .venv-wheel/bin/pytest -o pythonpath= -n 2 --dist worksteal $(ARGS)

.PHONY: lint
lint: $(DEV) ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pre-commit validate-config

.PHONY: format
format: $(DEV) ## the style, applied
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(DEV) ## the reference pages that the code itself says
	$(BIN)/python tools/make_reference.py

.PHONY: bench
bench: $(DEV) ## the benchmarks (ARGS="name" for one)
	$(BIN)/python -m bench $(ARGS)

.PHONY: coverage
coverage: $(DEV) servers ## which lines and branches the tests reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# From an empty environment: what is not asked for any more goes.
.PHONY: constraints
constraints: ## constraints.txt with today's releases (PYTHON=python3.11, the oldest that is supported)
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(PIP) install '$(PIP_RANGE)'
	$(PIP) install --editable . --group dev
	{ echo "# Made by \`make constraints\`: what lint, tests and benchmarks run with."; \
		$(BIN)/python -m pip freeze --exclude-editable; } > constraints.txt.new
	mv constraints.txt.new constraints.txt
	@touch $(RUNTIME) $(DEV)

.PHONY: clean
clean: ## everything that the targets made
	rm -rf .venv .venv-wheel build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
