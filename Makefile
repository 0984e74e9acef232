# make demo | test | lint | docs | check | format | setup | lock | clean
# Everything runs in .venv, which `setup` makes on first use and renews when pyproject.toml or constraints.txt change.

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs check format setup lock clean

help:
	@sed -n '1,2s/^# //p' Makefile

demo: $(STAMP)
	@$(BIN)/lm-eval-sts demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation's site, in site/; `.venv/bin/mkdocs serve` shows it while one writes.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: lint test docs

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(STAMP)

# constraints.txt: all that a development install brings, on every platform; what is in it already stays where it can.
lock: $(STAMP)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-emit-package lm-eval-sts \
		--custom-compile-command 'make lock' --extra dev --constraints constraints.in --output-file constraints.txt pyproject.toml

# torch first and alone: pip then keeps the build it finds (a CPU build brings no CUDA packages with it).
$(STAMP): pyproject.toml constraints.txt $(wildcard startup/lm_eval_sts_autoregister.*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 setup")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
