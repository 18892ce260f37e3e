# Everything happens in .venv, so nothing needs to be activated and nothing else is touched.
#   make demo    set everything up, compress and decompress a sample photo
#   make test    set everything up, pass the checks and the tests (what CI runs)

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
MINUTES ?= 5
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PACKAGES := runtime export training

.PHONY: help demo test lint types layers unit ptx gpu-check format bench exactness fuzz conformance build clean

help:
	@echo "make demo    set up, compress and decompress a sample photo"
	@echo "make test    set up, then ruff, mypy, import-linter and pytest (what CI runs)"
	@echo "make lint    ruff only            make types   mypy only"
	@echo "make layers  import-linter only   make unit    pytest only"
	@echo "make ptx     compile all CUDA kernels without a GPU"
	@echo "make gpu-check  on a machine with a GPU: its tests, then benchmarks.gpu"
	@echo "make format  let ruff sort imports and format"
	@echo "make bench IMAGES=DIR  all benchmarks, meant for Kodak: speed, big pictures, coder, BD-rate (about an hour)"
	@echo "make fuzz MINUTES=N    fuzz each of four targets   make conformance   our decoder on the kit"
	@echo "make exactness  integers of every engine, 100 million scale indices (half an hour)"
	@echo "make build   wheel and sdist      make clean   remove .venv and build outputs"

# pip older than 25.1 has no --group, hence the upgrade inside the environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: Trellic needs Python 3.11 or newer, none was found; \
	install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[cpu]'
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[cpu,export,training]' --group dev
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/python -m benchmarks.demo

test: $(VENV)/.test
	@$(MAKE) --no-print-directory lint types layers unit

lint: $(VENV)/.test
	$(BIN)/ruff check $(PACKAGES) tests benchmarks

types: $(VENV)/.test
	$(BIN)/mypy

layers: $(VENV)/.test
	$(BIN)/lint-imports

unit: $(VENV)/.test
	$(BIN)/python -m pytest -m "not network" --durations=10

ptx: $(VENV)/.test
	$(BIN)/python -m benchmarks.ptx

# Uses the python that is there (python3, or GPU_PYTHON=...), because a machine with a GPU has a torch
# and a numba-cuda that fit its driver; nothing is installed.
GPU_PYTHON ?= python3
gpu-check:
	PYTHONPATH=runtime:export:training $(GPU_PYTHON) -m pytest -m gpu tests/cuda
	PYTHONPATH=runtime:export:training $(GPU_PYTHON) -m benchmarks.gpu

format: $(VENV)/.test
	$(BIN)/ruff check --fix $(PACKAGES) tests benchmarks
	$(BIN)/ruff format $(PACKAGES) tests benchmarks

$(VENV)/.bench: $(VENV)/.demo
	$(PIP) --group bench
	@touch $@

bench: $(VENV)/.bench
	@test -n "$(IMAGES)" || { echo "error: name a folder of photos: make bench IMAGES=DIR"; exit 1; }
	$(BIN)/python -m benchmarks.suite --images "$(IMAGES)"

$(VENV)/.fuzz: $(VENV)/.test
	$(PIP) --group fuzz
	@touch $@

fuzz: $(VENV)/.fuzz
	for target in parser loader coder decode; do \
		$(BIN)/python -m tests.fuzz.run $$target --minutes $(MINUTES) || exit 1; done

conformance: $(VENV)/.demo
	$(BIN)/python -m tests.conformance.run --decoder "$(BIN)/trellic decode {input} {output}"

exactness: $(VENV)/.test
	$(BIN)/python -m benchmarks.exactness --threads 1

build: $(VENV)/.test
	$(BIN)/python -m build --outdir dist

clean:
	rm -rf $(VENV) build dist
