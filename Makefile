# Two commands for a newcomer: `make demo` and `make test`. Both set everything up first.
VENV := .venv/bin

.PHONY: help setup demo test test-all bench lint clean
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing, start the engine if none answers (safe to repeat)
	@.ci/setup

demo: setup ## the whole chain on sample images, from candidate to rollout
	@.ci/demo

test: setup ## fast tests first, then the ones that boot real things
	@$(VENV)/python -m tests.images
	$(VENV)/pytest -q -m "not slow"

test-all: setup ## everything, slow matrices included
	@$(VENV)/python -m tests.images
	CERTIFY_TEST_KILLS=20 $(VENV)/pytest -q

bench: setup ## measure against the peers; prints ratios, writes benchmarks.json
	@$(VENV)/pip install -qq -e '.[bench]'
	@$(VENV)/python -m tests.images
	$(VENV)/python -m tests.benchmarks

lint: setup ## ruff and mypy
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

clean: ## forget caches and the virtual environment
	rm -rf .venv .cache
