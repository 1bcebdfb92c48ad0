# Every target works in a fresh clone; .venv is made once and again only when its inputs change.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
DONE := .venv/.installed

$(DONE): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(DONE)

.PHONY: setup locked demo test soak check fix lock audit help
setup: $(DONE)  ## make .venv and install the pinned packages

locked:  ## the same from requirements.lock: every file but that of torch has a known hash
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt torch
# One package comes as source alone: it is built by what is locked, not by what pip would fetch.
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > .venv/builds
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement .venv/builds
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation \
		--requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(DONE)

demo: $(DONE)  ## fine-tune the embedded model on shipped conversations and compare (minutes, no GPU)
	$(BIN)/python train.py fit --config configs/demo.yaml
	$(BIN)/python eval.py demo --max_new_tokens 96

test: $(DONE)  ## run the fast test suite, offline
	$(BIN)/python -m pytest

soak: $(DONE)  ## run the long attacks (hours) and write their figures into docs/reliability.md
	$(BIN)/python -m pytest -m soak
	$(BIN)/python benchmarks/tables.py

check: $(DONE)  ## lint, format and type check, as CI does
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

fix: $(DONE)  ## mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(DONE)  ## write requirements.lock anew, after a change of pyproject.toml or constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	printf 'torch\n' > .venv/excluded
	sed -n '/^#/p' requirements.lock > .venv/head
	printf 'sympy\nnetworkx\nsetuptools\n' | $(BIN)/uv pip compile - pyproject.toml --quiet \
		--all-extras --universal --python-version 3.11 --constraint constraints.txt \
		--excludes .venv/excluded --generate-hashes --no-header --no-annotate -o .venv/lock
	cat .venv/head .venv/lock > requirements.lock

audit: $(DONE)  ## look all locked versions up among known vulnerabilities (needs the network)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip-audit
	$(BIN)/pip-audit --require-hashes --disable-pip --requirement requirements.lock

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
