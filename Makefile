# `make` alone explains itself. Everything happens in .venv; nothing else of the machine is touched but Debian packages, by root only.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.pixtail-installed

# uv brings its own list of authorities; the machine's knows of company mirrors too.
export UV_SYSTEM_CERTS ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check format test demo chaos bench tiny-clip clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

setup: $(STAMP) ## .venv with everything in it, and the servers that demo, tests and benchmarks need
	@echo "servers' parts:"
	@$(BIN)/python -m pixtail.servers.setup

check: $(STAMP) ## formatting, lint, types and the direction of imports: what CI asks for
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## formats the code and mends what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## the whole suite, or ARGS="tests/unit -k codec"
	$(BIN)/pytest $(ARGS)

demo: setup ## everything running on this machine, with sample pictures; ARGS="--check" tries it out and ends
	$(BIN)/pixtail demo $(ARGS)

chaos: setup ## kills listener, broker and MySQL 1000 times under a million rows, and counts; or ARGS="--database mariadb --kills 50 --rows 50000"
	$(BIN)/python -m tests.chaos $(if $(ARGS),$(ARGS),--kills 1000 --rows 1000000)

bench: setup ## every benchmark, one after the other; ARGS goes to each
	@set -e; for file in benchmarks/*.py; do \
		[ -e "$$file" ] || { echo "there are no benchmarks"; break; }; \
		echo "== $$file"; $(BIN)/python "$$file" $(ARGS); \
	done

tiny-clip: $(STAMP) ## trains the tiny CLIP model of the demo and the tests anew
	$(BIN)/python -m encoder.tiny_clip.training --out encoder/tiny_clip/weights $(ARGS)

clean: ## removes caches and what was built; .venv and the servers' parts stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# The stamp comes last, so that a killed run is taken up again. A .venv without uv and pip is half made and starts anew.
$(STAMP): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/uv ] && ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "Pixtail needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)."; \
			echo "Run: make setup PYTHON=python3.12   (or whichever newer one you have)"; exit 1; }; \
		$(PYTHON) -m venv --clear $(VENV) || { \
			echo "$(PYTHON) cannot make virtual environments. On Debian run: sudo apt-get install -y python3-venv"; exit 1; }; \
	fi
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet -c constraints.txt uv
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install -e '.[all,dev]' -c constraints.txt
	@touch $@
