# codejoule: every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
# Named after what is to be installed: file times, which differ from clone to clone, say nothing of it.
STAMP := $(VENV)/.installed-$(shell { sed '/^\[tool\.ruff\]/,$$d' pyproject.toml; cat constraints.txt; } | sha256sum | cut -c 1-16)
SYSTEM_PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PORT ?= 5000
HOST ?= 127.0.0.1
ALONE := tests/sandbox tests/evaluation

.DEFAULT_GOAL := help
.PHONY: help setup browser eval-env vllm-env demo ui server analysis doctor check format test test-slow test-gpu test-cluster docs starter-suite starter-model clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(STAMP):
	@test -n "$(SYSTEM_PYTHON)" || { echo "codejoule needs Python 3.11 or newer; install it, or name it: make $(MAKECMDGOALS) SYSTEM_PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV) with $(SYSTEM_PYTHON) (a few minutes the first time) ..."
	@$(SYSTEM_PYTHON) -m venv $(VENV) || { echo "python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@# PyTorch first, so that nothing else decides which build of it is taken.
	@$(PY) -m pip install --quiet --constraint constraints.txt torch
	@$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@rm -f $(VENV)/.installed* && touch $@

setup: $(STAMP) ## make .venv and install everything

browser: ## install Chromium, which the report is tested in, where that is possible
	@.ci/install-package chromium chromium "the tests of the report in a browser are skipped"

eval-env: $(STAMP) ## build BigCodeBench's own environments (Python 3.11, and 3.10 where present)
	@$(BIN)/codejoule env bigcodebench

vllm-env: $(STAMP) ## build the environment of engine=vllm (with CUDA, or for the CPU)
	@$(BIN)/codejoule env vllm

demo: setup ## fresh clone to results: sweep the bundled model and print the comparison
	@$(BIN)/codejoule run -m model=starter quant=none,gptq8,gptq4 batch=b1,b8

ui: $(STAMP) ## MLflow UI on the project's store (PORT=5000, or the next that is free)
	@$(BIN)/codejoule ui --port $(PORT)

server: $(STAMP) ## MLflow on PostgreSQL for a team, with logins (HOST=127.0.0.1 PORT=5000 SERVER_DIR=...)
	@$(BIN)/codejoule server --host $(HOST) --port $(PORT) $(if $(SERVER_DIR),--dir $(SERVER_DIR))

analysis: $(STAMP) ## tables, statistics and one HTML report from the runs in MLflow
	@$(BIN)/codejoule analyze

doctor: $(STAMP) ## what this machine offers, and what is missing
	@$(BIN)/codejoule doctor

check: $(STAMP) ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## format the code
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

test: setup browser ## fresh clone to green: the test suite (under 8 minutes on two cores, once installed)
	@# The sandbox has time limits, counts processes and uses both cores: not beside other tests.
	@$(PY) -m pytest -m 'not slow and not gpu and not cluster' $(ALONE)
	@# The files in their order: ordered by their number of tests, those of few long ones come last.
	@$(PY) -m pytest -m 'not slow and not gpu and not cluster' -n 2 --dist loadfile --no-loadscope-reorder $(ALONE:%=--ignore=%)

test-slow: setup ## the tests that take minutes
	@$(PY) -m pytest -m slow

test-gpu: setup ## the tests that need an NVIDIA GPU
	@$(PY) -m pytest -m gpu

test-cluster: setup ## the tests that need Slurm, Ray and PostgreSQL, installed where that is possible
	@for each in slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client slurmdbd:slurmdbd munged:munge mariadbd:mariadb-server pg_ctlcluster:postgresql; do \
		PATH=$$PATH:/usr/sbin .ci/install-package $${each%:*} $${each#*:} "the tests that need it are skipped"; done
	@$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[cluster,ray,server]'
	@$(PY) -m pytest -m cluster

docs: $(STAMP) ## build the documentation in site/, with every warning an error
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

starter-suite: $(STAMP) ## make the bundled suites again
	@$(PY) -m tools.starter.make suite

starter-model: $(STAMP) ## train and quantize the bundled model again (up to 20 minutes on two cores)
	@$(PY) -m tools.starter.make model
	@$(PY) -m tools.starter.make quantize

clean: ## remove the environments and caches (runs and stores are kept)
	@rm -rf $(VENV) site .eval-env .vllm-env .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
