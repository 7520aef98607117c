# `make demo` and `make test` are all the set-up there is: each makes .venv when it is missing and installs
# again only when pyproject.toml changed; `make demo` leaves out what only tests need. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/.installed-demo
READY := .venv/.installed
PEERS := .venv-peers/.installed
DOCS := .venv/.installed-docs
PREFIX ?= demo
DEVICE ?= cuda
BUDGET ?= 480
JOBS ?= 3
PYTEST := $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 10
UNIT := tests/unit $(wildcard tests/test_*.py)
# What starts worker groups. First, since its files are the longest: no worker is left alone with one at the end.
PROCESS := tests/process tests/surroundings tests/torture tests/cuda_standin tests/gpu

.PHONY: demo test test-fast check bench gpu torture docs clean

demo: $(DEMO)
	$(BIN)/ecrl matrix run --prefix $(PREFIX) matrices/demo.toml
	$(BIN)/ecrl report --prefix $(PREFIX)

test: check
	$(PYTEST) $(PROCESS) $(UNIT)

# What to run after every change: lint, types and the unit tests.
test-fast: check
	$(PYTEST) $(UNIT)

check: $(READY)
	$(BIN)/ruff check ecrl tests bench docs
	$(BIN)/ruff format --check ecrl tests bench docs
	MYPY_NUM_WORKERS=auto $(BIN)/mypy
	@# Else, where PYTHONDONTWRITEBYTECODE is set, every process of the tests compiles every module that it loads.
	$(BIN)/python -m compileall -q ecrl tests bench

# The full versions of what `make test` checks in short; -rP shows each program's verdict.
torture: $(READY)
	$(BIN)/python -m pytest -q -m "torture or statistics" -rP

# Beside GNU parallel, signac-flow and Snakemake, as far as they are there; about eight minutes.
bench: $(READY)
	$(MAKE) --no-print-directory $(PEERS) || echo "bench: going on without signac-flow and Snakemake"
	$(BIN)/python -m bench

# The first minutes on a GPU machine; DEVICE=cpu tries the same without one. BUDGET: seconds.
gpu: $(READY)
	$(BIN)/python -m bench.gpu --device $(DEVICE) --budget-s $(BUDGET)

# The site in build/site; --strict makes an error of a broken link.
docs: $(DOCS)
	$(BIN)/python -m docs.generate
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .venv-peers build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(DEMO): pyproject.toml
	@echo "Installing ecrl and PyTorch into .venv; the first time this takes some minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# One resolution and one build for all. pip would compile on one core, and the tests of every package too; what does not
# compile is torch's, for newer Pythons.
$(READY): pyproject.toml
	@echo "Installing ecrl, PyTorch and the tools of the tests into .venv; the first time this takes some minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev,peers,parquet,bundle,check,tensorboard,prometheus]'
	$(BIN)/python -m compileall -q -j 0 -x /tests/ .venv/lib >/dev/null || true
	touch $(DEMO) $@

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

$(PEERS): bench/peers.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@
