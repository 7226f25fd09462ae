# Two commands set everything up: `make demo` and `make test`. Both create .venv with what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One BLAS thread a process: the workers are the parallelism, and results do not depend on the machine's core count.
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1

.PHONY: demo demo-train test test-whisperx test-environment lint format bench clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; assert (3, 10) <= sys.version_info < (3, 13), f"Python 3.10 to 3.12 is needed, this is {sys.version}; call make PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## three synthetic talkers through the whole pipeline, against their known truth
	$(BIN)/talkset demo --out demo

demo-train: $(VENV)/.installed  ## synthetic speakers, a tiny generator trained on them, measured on others (15 minutes)
	OMP_NUM_THREADS=$$(nproc) $(BIN)/talkset train demo --out demo-train

test: $(VENV)/.installed-dev lint  ## everything that CI checks
	$(BIN)/python -m pytest

WHISPERX := .venv-whisperx

$(WHISPERX)/.installed:
	$(PYTHON) -m venv $(WHISPERX)
	$(WHISPERX)/bin/pip install --quiet 'whisperx>=3.8,<4'
	touch $@

test-whisperx: $(VENV)/.installed-dev $(WHISPERX)/.installed  ## WhisperX for real, in its own environment (8 GB)
	TALKSET_WHISPERX_PYTHON=$(abspath $(WHISPERX))/bin/python $(BIN)/python -m pytest -s tests/annotate/test_whisperx_backend.py

test-environment: $(VENV)/.installed-dev  ## a Ray runtime environment for real: copies the environment (4 GB)
	TALKSET_TEST_ENVIRONMENT=1 $(BIN)/python -m pytest -s tests/pipelines/test_environment.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev  ## the measured claims; each prints its peer's figure in the same run
	status=0; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || status=1; done; exit $$status

clean:
	rm -rf $(VENV) demo demo-train dist build .mypy_cache .ruff_cache .pytest_cache
