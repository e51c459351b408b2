# What people type. Whatever needs more than a line is in .ci/ or in the program itself.
.DEFAULT_GOAL := help
.PHONY: help install demo run test check bench
PY := .venv/bin/python
CONFIG ?= headroom.toml
export PYTHON

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

install: .venv/.installed ## make .venv with all that is needed (Python 3.11 or newer)

.venv/.installed: requirements.txt requirements-dev.txt .ci/install
	@.ci/install

demo: install ## watch a real database under real load (ARGS="--scenario leak")
	@$(PY) -m headroom demo $(ARGS)

run: install ## run Headroom on your own servers (CONFIG=headroom.toml)
	@$(PY) -m headroom up --config $(CONFIG) $(ARGS)

test: install ## run the tests (ARGS="-k pool")
	@.ci/system-packages pgbouncer chromium || echo "The tests that need it are skipped."
	$(PY) -m pytest $(ARGS)

check: install ## ruff, mypy --strict, import-linter, and whether everything is documented
	.venv/bin/ruff check --quiet . && .venv/bin/ruff format --check --quiet .
	.venv/bin/mypy && .venv/bin/lint-imports
	$(PY) -m pytest -q tests/unit/test_docs.py

bench: install ## measure what the README promises
	$(PY) -m bench $(ARGS)
