# Any Python from 3.11 on, with venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
STAMP := $(VENV)/.installed

# Where it is set, each of the many processes that tests start compiles clawq anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo up down test chaos soak guards check bench bench-sandboxes bench-workflows bench-memory bench-sockets lock clean

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make the environment in .venv (once, and again when requirements change)

$(STAMP): setup.cfg pyproject.toml requirements.lock
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@echo 'Installing into $(VENV), about a minute …'
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[test,check]'
	@touch $@

demo: install ## Start everything, post a real workflow, show it, stop
	@$(VENV)/bin/clawq demo

up: install ## Start the stack and keep it running
	@$(VENV)/bin/clawq up

down: install ## Stop the stack
	@$(VENV)/bin/clawq down

test: install ## Run every test that this machine can run
	$(VENV)/bin/pytest

guards: install ## Prove that tests go red without what they guard
	$(VENV)/bin/python tests/prove_guards.py

chaos: install ## Break a running stack in every known way, quickly (part of `make test`)
	$(VENV)/bin/pytest tests/chaos

soak: install ## Break it for longer: default leases, and random faults for CLAWQ_SOAK_S seconds
	$(VENV)/bin/pytest tests/chaos -m soak -s

check: install ## Check format, lint, types and the direction of imports
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: install ## Measure throughput, latency and workflows beside plain Celery, then sandboxes, memory and sockets
	$(VENV)/bin/python -m benchmarks.throughput
	$(VENV)/bin/python -m benchmarks.workflows
	$(VENV)/bin/python -m benchmarks.sandboxes
	$(VENV)/bin/python -m benchmarks.memory
	$(VENV)/bin/python -m benchmarks.retrieval
	$(VENV)/bin/python -m benchmarks.sockets

bench-memory: install ## Measure memory alone, beside Chroma, and how much of what is asked for is found
	$(VENV)/bin/python -m benchmarks.memory
	$(VENV)/bin/python -m benchmarks.retrieval

bench-sockets: install ## Measure sockets alone: how soon a client hears, a crowd that follows, one that is only there
	$(VENV)/bin/python -m benchmarks.sockets

bench-sandboxes: install ## Measure sandboxes alone, beside containers that are started by hand (needs an engine)
	$(VENV)/bin/python -m benchmarks.sandboxes

bench-workflows: install ## Measure workflows alone, beside chains and chords of plain Celery
	$(VENV)/bin/python -m benchmarks.workflows

lock: install ## Pin what the environment resolves to now
	$(VENV)/bin/pip-compile --quiet --upgrade --extra=check --extra=test --no-emit-find-links --no-emit-index-url \
		--no-emit-trusted-host --output-file=requirements.lock --strip-extras setup.cfg

clean: ## Remove the environment and caches; state in var/ stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
