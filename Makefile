# make demo and make test set up everything that they need, in .venv, from the locks in requirements/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: setup demo test check bench docs lock clean

setup: $(VENV)/dev

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "ONEX needs Python 3.11 to 3.13; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/runtime: $(VENV)/python requirements/runtime.txt pyproject.toml
	$(PIP) install --require-hashes -r requirements/runtime.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: $(VENV)/runtime requirements/dev.txt
	$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/runtime
	$(BIN)/python -m examples.demo

test: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup -rs --cov --cov-report=term:skip-covered --cov-fail-under=95 $(ARGS)

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bench: $(VENV)/dev requirements/bench.txt
	$(PIP) install --require-hashes -r requirements/bench.txt
	@touch $@

bench: $(VENV)/bench
	$(BIN)/python -m benchmarks

docs: $(VENV)/dev
	$(BIN)/python -m docs.generate

lock: $(VENV)/dev
	$(PIP) install uv
	$(BIN)/uv pip compile --quiet pyproject.toml requirements/build.in --extra all --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet pyproject.toml requirements/build.in --extra all --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -c requirements/dev.txt -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet pyproject.toml requirements/build.in --extra all --extra dev --extra bench --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -c requirements/dev.txt -o requirements/bench.txt

clean:
	rm -rf $(VENV) .onex .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .benchmarks
