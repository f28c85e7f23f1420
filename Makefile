PYTHON ?= python3
N ?= 1000
READY := .venv/ready
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check fuzz lock clean

# the tests run on every core already
test test-all fuzz: export OMP_NUM_THREADS ?= 1

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml scripts/setup.sh
	PYTHON=$(PYTHON) scripts/setup.sh
	@touch $@

setup: $(READY)  ## make .venv from requirements.lock

demo: $(READY)  ## caption the sample media, as they stream
	$(BIN)/mmworld demo

test: check  ## lint, types, layers and tests
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

test-all: check  ## the slow tests too
	MMWORLD_HYPOTHESIS=full $(BIN)/python -m pytest -q -n 2 --timeout 3600

check: $(READY)  ## lint, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(READY)  ## N mutated files for every parser
	$(BIN)/python -m tests.fuzz --n $(N)

lock: $(READY)  ## resolve requirements.lock anew
	$(BIN)/uv pip compile --quiet --upgrade pyproject.toml --extra dev --constraint scripts/pins.txt --universal \
	    --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock

clean:  ## remove what was built, .venv too
	rm -rf .venv build dist .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
