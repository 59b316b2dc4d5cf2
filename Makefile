# `make` lists the targets. Everything runs without root; `setup` is what the others call first.

PYTHON ?= python3
BIN := .venv/bin
TRAIN := .runtime/training
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup up demo test check lint format typecheck proto generate bench bench-inference bench-reliability train-handbook eval-handbook clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Prepare .venv, Triton's runtime and the embedding model; nothing to do when all is there
	@$(PYTHON) scripts/setup.py

up: setup ## Run the whole mesh in the foreground; Ctrl-C stops it
	@$(BIN)/mycel up

demo: setup ## Start a mesh, show every level on real input, stop it: under two minutes
	@$(BIN)/mycel demo

test: setup ## Run every test; warnings are errors
	@$(BIN)/python -m pytest $(PYTEST)

check: setup lint typecheck proto ## Everything that needs no running mesh: lint, format, types, imports, protos

lint: ## Lint, formatting, and that services do not import one another
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

typecheck: ## mypy, strict
	@$(BIN)/mypy

proto: ## The stubs are those of the protos; buf's lint; no change that breaks clients
	@$(BIN)/python scripts/generate.py --check
	@$(BIN)/buf lint
	@$(BIN)/python scripts/proto_breaking.py

generate: setup ## Write the stubs under gen/ and Envoy's descriptor set from protos/
	@$(BIN)/python scripts/generate.py

format: setup ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench: setup ## Measure a mesh that it starts, and write docs/benchmarks.md
	@$(BIN)/python -m tests.benchmarks.bench_mesh --write docs/benchmarks.md

bench-inference: setup ## Measure local inference: mesh against Triton, recovery, prefixes; writes docs/benchmarks.md
	@$(BIN)/python -m tests.benchmarks.bench_inference --write docs/benchmarks.md

bench-reliability: setup ## Measure what failing providers cost the caller (ten minutes), and write docs/reliability.md
	@$(BIN)/python -m tests.benchmarks.reliability --write docs/reliability.md

$(TRAIN)/made: requirements/train.lock
	@$(PYTHON) -m venv $(TRAIN)
	@$(TRAIN)/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements/train.lock
	@touch $@

train-handbook: $(TRAIN)/made ## Train the handbook Llama anew and write its GGUF (up to an hour on two cores)
	@$(TRAIN)/bin/python -m training.train

eval-handbook: $(TRAIN)/made ## Measure the handbook Llama: taught and held-out phrasings
	@$(TRAIN)/bin/python -m training.evaluate

clean: ## Remove what was built and the state; .venv and .runtime stay
	@rm -rf build .mycel .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
