# Two commands for a newcomer: `make demo` and `make test`. Both set everything up first.
VENV := .venv/bin

.PHONY: help setup demo test test-deep test-all bench bench-metal lab lint dist clean
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing, start the engine if none answers (safe to repeat)
	@.ci/setup

demo: setup ## the whole chain on sample images, from candidate to rollout
	@.ci/demo

test: setup ## fast tests first, then the ones that boot real things
	@$(VENV)/python -m tests.images
	$(VENV)/pytest -q -m "not slow and not deep"

test-deep: setup ## attacks, faults and kills: what tries to get a false pass, a lost byte or a blamed innocent
	@$(VENV)/python -m tests.images
	CERTIFY_TEST_KILLS=8 $(VENV)/pytest -q -m "deep and not slow"

test-all: setup ## everything, slow matrices included
	@$(VENV)/python -m tests.images
	CERTIFY_TEST_KILLS=20 $(VENV)/pytest -q

bench: setup ## measure against the peers; prints ratios, writes benchmarks.json
	@$(VENV)/pip install -qq -e '.[bench]'
	@$(VENV)/python -m tests.images
	$(VENV)/python -m tests.benchmarks

bench-metal: setup ## measure the write path of metal nodes; writes benchmarks-metal.json
	$(VENV)/python -m tests.benchmarks.metal

lab: setup ## start the lab: a virtual metal node behind a Redfish service; writes nodes.yaml, makes an image for it
	@$(VENV)/python -m tests.images disk-base
	$(VENV)/certify lab up

lint: setup ## ruff and mypy
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

dist: setup ## build wheel and sdist into dist/
	$(VENV)/python -m build --no-isolation --outdir dist .

clean: ## forget caches and the virtual environment
	rm -rf .venv .cache
