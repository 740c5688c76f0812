# Two commands: `make demo` and `make test`. Both set up .venv themselves.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "error: Python 3.11 or newer not found; install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing packages into $(VENV) (CPU builds; a few minutes the first time)"
	@# torch first and pinned: a later "torch" is then already satisfied and pulls no CUDA build
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,explorer]'
	@touch $@

setup: $(STAMP)  ## create .venv and install everything

demo: $(STAMP)  ## the whole pipeline on real data with real weights (about 10 minutes on 2 cores)
	@$(BIN)/python -m experiments.demo

test: $(STAMP)  ## lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -n 2 --dist loadfile

clean:  ## remove .venv and the demo's outputs
	rm -rf $(VENV) runs/demo
