# Everything happens in .venv, so nothing needs to be activated and nothing else is touched.
#   make demo    set everything up, compress and decompress a sample photo
#   make test    set everything up, pass the checks and the tests
#   make test-all  the same with the slow and the long tests

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
MINUTES ?= 5
# What the tests leave out: slow (over two seconds) or long (over five, and CI can do without).
LEAVE_OUT ?= slow
WORKERS ?= 2
# No registry is named: the settings of uv and pip say where files come from.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
VENV := .venv
BIN := $(VENV)/bin
QUIETLY := --disable-pip-version-check install --quiet
INSTALL := -m pip $(QUIETLY)
PIP := $(BIN)/python $(INSTALL) --constraint constraints/tested.txt
PACKAGES := runtime export training
VERSIONS := lowest newest gpu-machine
# $(call exactly,PYTHON,FILE): what the file names, by hash. uv takes a quarter of pip's time; it reads
# no pip.conf, so pip goes on where only that names an index. Python compiles a module when it is
# first imported: most of 17,000 never are.
UV := $(BIN)/uv
BY_HASH := --require-hashes --no-deps --requirement
exactly = $(UV) pip install --quiet --python $(1) $(BY_HASH) $(2) \
	|| $(BIN)/python -m pip --python $(1) $(QUIETLY) --no-compile $(BY_HASH) $(2)
# $(call locked,PYTHON,FILE): the same, and this folder.
define locked
	$(call exactly,$(1),$(2))
	$(UV) pip install --quiet --python $(1) --no-deps --no-build-isolation --editable .
	$(UV) pip check --python $(1)
endef
PYTEST := -m pytest -m "not network" --numprocesses $(WORKERS) --dist worksteal
# Workers share the cores; with several threads each they would mostly wait for one another.
unit coverage test-lowest test-newest test-gpu-versions: export OMP_NUM_THREADS ?= 1

.PHONY: help demo test test-all lint types layers unit coverage docs rooms ptx gpu-check gpu-day gpu-rehearsal format bench exactness \
	fuzz mutants web-tools triton-check ray-check conformance test-lowest test-newest test-gpu-versions lock build release-check sbom hooks clean $(VERSIONS:%=have-%)

help:
	@echo "make demo    set up, compress and decompress a sample photo"
	@echo "make test    set up, then ruff, mypy, import-linter, lengths and pytest without slow tests"
	@echo "make test LEAVE_OUT=long  the same with slow tests, but none of the longest, as CI does"
	@echo "make test-all  the same with all tests (training, processes, simulated kernels) and coverage"
	@echo "make lint    ruff only            make types   mypy only"
	@echo "make layers  import-linter only   make unit    pytest only (WORKERS=N processes)"
	@echo "make coverage  pytest with a table of what it runs, and a floor"
	@echo "make docs    the pages and the API reference as one site in build/site; warnings are errors"
	@echo "make rooms   lengths of modules and functions; fails where a function is too long"
	@echo "make hooks   let git run ruff and mypy before each commit"
	@echo "make web-tools  playwright, for tests in a browser (Chromium and node: apt)"
	@echo "make triton-check  a Triton server in an environment of its own (400 MB), asked by tests/triton"
	@echo "make ray-check  a local Ray in an environment of its own (100 MB), with two workers, by tests/ray"
	@echo "make test-lowest, test-newest, test-gpu-versions  the runtime's tests with other versions"
	@echo "make ptx     compile all CUDA kernels without a GPU"
	@echo "make gpu-check  on a machine with a GPU: its tests, then benchmarks.gpu"
	@echo "make gpu-day  on a machine with a GPU: all of docs/gpu-day.md, an hour at most"
	@echo "make gpu-rehearsal  the same without a GPU, on a driver that interprets the kernels"
	@echo "make format  let ruff sort imports and format"
	@echo "make bench IMAGES=DIR  all benchmarks, meant for Kodak: speed, big pictures, coder, BD-rate (about an hour)"
	@echo "make fuzz MINUTES=N    fuzz each of eight targets   make conformance   our decoder on the kit"
	@echo "make mutants FILES='...'  break modules in small ways, count what no test notices (minutes a module)"
	@echo "make exactness  integers of every engine, 100 million scale indices (half an hour)"
	@echo "make build   wheel and sdist, checked   make release-check  the wheel in an empty environment"
	@echo "make sbom    bill of materials and licences of what the wheel brings"
	@echo "make lock    the versions and hashes that CI installs, anew (constraints/)"
	@echo "make clean   remove .venv and build outputs"

# ---- environments ----

# pip older than 25.1 has no --group, hence the upgrade inside the environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: Trellic needs Python 3.11 or newer, none was found; \
	install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
ifndef LOCKED
	$(BIN)/python $(INSTALL) --upgrade 'pip>=25.1'
endif

$(VENV)/.uv: constraints/uv.txt $(BIN)/python
	$(BIN)/python $(INSTALL) --no-compile --require-hashes --no-deps --requirement $<
	@touch $@

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints/tested.txt
	$(PIP) --editable '.[cpu]'
	@touch $@

# LOCKED=1 (CI) installs what constraints/ci.txt names and nothing else, each file by its hash.
$(VENV)/.test: $(BIN)/python pyproject.toml constraints/tested.txt constraints/ci.txt $(if $(LOCKED),$(VENV)/.uv)
ifdef LOCKED
	$(call locked,$(BIN)/python,constraints/ci.txt)
else
	$(PIP) --editable '.[cpu,export,training,serve,data]' --group dev
endif
	@touch $@ $(VENV)/.demo

# ---- checks ----

demo: $(VENV)/.demo
	$(BIN)/python -m benchmarks.demo

# The checks run two at a time, each with what it prints in one piece. ALSO: others beside them (CI).
# mypy takes longest, so it starts first.
CHECKS := types lint layers rooms $(ALSO)
TOGETHER := $(MAKE) --no-print-directory --jobs 2 --output-sync=target

test: $(VENV)/.test
	@$(TOGETHER) $(CHECKS)
	@$(MAKE) --no-print-directory unit

test-all: $(VENV)/.test
	@$(TOGETHER) $(CHECKS)
	@$(MAKE) --no-print-directory coverage

lint: $(VENV)/.test
	$(BIN)/ruff check $(PACKAGES) tests benchmarks docs
	$(BIN)/ruff format --check $(PACKAGES) tests benchmarks docs

types: $(VENV)/.test
	$(BIN)/mypy

layers: $(VENV)/.test
	$(BIN)/lint-imports

unit: $(VENV)/.test
	$(BIN)/python $(PYTEST) -m "not network and not $(LEAVE_OUT)" --durations=10
	@echo "left out: the tests that are marked $(LEAVE_OUT); make test-all runs them too"

coverage: $(VENV)/.test
	$(BIN)/python $(PYTEST) --durations=10 --cov --cov-report=term:skip-covered

rooms: $(VENV)/.test
	$(BIN)/python -m benchmarks.rooms --limit

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

# CHANGED=1 (CI): only if a kernel or a compiler is not that of benchmarks/results/ptx.json.
ptx: $(VENV)/.test
	$(BIN)/python -m benchmarks.ptx $(if $(CHANGED),--changed)

# Uses the python that is there (python3, or GPU_PYTHON=...), because a machine with a GPU has a torch
# and a numba-cuda that fit its driver; nothing is installed.
GPU_PYTHON ?= python3
# Packages that were brought along are found where PYTHONPATH says.
ON_GPU := PYTHONPATH=runtime:export:training:$(PYTHONPATH) $(GPU_PYTHON)
gpu-check:
	$(ON_GPU) -m pytest -m gpu tests/cuda
	$(ON_GPU) -m benchmarks.gpu

# docs/gpu-day.md: all that is to be done with a GPU, in one go.
gpu-day:
	$(ON_GPU) -m benchmarks.gpu_day

# The same without a GPU: kernels' PTX in an interpreter, also with threads in a random order.
FAKE := $(BIN)/python -m tests.cuda.driver
ON_FAKE := $(BIN)/python -m pytest -q -p tests.cuda.driver.plugin -m gpu
gpu-rehearsal: $(VENV)/.test
	$(FAKE) $(ON_FAKE) tests/cuda
	$(FAKE) --order 1 --lazy $(ON_FAKE) tests/cuda/test_entropy_kernels.py tests/cuda/test_search_kernels.py \
		tests/cuda/test_compaction.py tests/cuda/test_counts.py tests/cuda/test_replays.py
	$(BIN)/python -m benchmarks.gpu_day --rehearse

format: $(VENV)/.test
	$(BIN)/ruff check --fix $(PACKAGES) tests benchmarks docs
	$(BIN)/ruff format $(PACKAGES) tests benchmarks docs

hooks: $(VENV)/.test
	$(BIN)/pre-commit install

# ---- the runtime with other versions: its own tests, without torch ----

# What depends on the versions of libraries; damage, attacks, the desktop and other code on the same
# libraries don't.
NO_VERSIONS := $(addprefix tests/runtime/test_,best_effort bitstream_damage cli_big cli_decoders cli_desktop \
	cli_folders cli_help cli_real cli_tools compare dither layers tiles)
RUNTIME_TESTS := tests/runtime tests/conformance $(NO_VERSIONS:%=--ignore %.py)
# With numba 0.61, 12 of these fail after other tests of the same process (a PyCapsule cannot be pickled).
ALONE := tests/attacks/test_kernel_folder.py
# The first that starts of python3.N and pyenv's; a shim of pyenv may be there and not start.
python3 = $(shell for p in python3.$(1) $(HOME)/.pyenv/versions/3.$(1).*/bin/python; do \
	$$p --version >/dev/null 2>&1 && echo $$p && break; done)
lowest_python = $(call python3,11)
newest_python = $(call python3,13)
gpu-machine_python = $(call python3,12)

$(VERSIONS:%=have-%): have-%:
	@test -n "$($*_python)"

$(VERSIONS:%=build/%/.ready): build/%/.ready: constraints/%.txt pyproject.toml $(VENV)/.uv
	@test -n "$($*_python)" || { echo "error: the Python of constraints/$*.txt is not here; \
	name it: make $*_python=/path/to/python"; exit 1; }
	$($*_python) -m venv --clear --without-pip build/$*
	$(call locked,build/$*/bin/python,$<)
	@touch $@

test-lowest: build/lowest/.ready
test-newest: build/newest/.ready
test-gpu-versions: build/gpu-machine/.ready
# Kernels that another numba compiled are kept apart. Slow tests run with the tested versions alone.
test-lowest test-newest test-gpu-versions:
	TRELLIC_CACHE=$(CURDIR)/$(<D)/cache $(<D)/bin/python $(PYTEST) -m "not network and not slow" $(RUNTIME_TESTS)
	TRELLIC_CACHE=$(CURDIR)/$(<D)/cache $(<D)/bin/python -m pytest $(ALONE)

# ---- what tests of the web decoder need; without it they are skipped, and say so ----

$(VENV)/.browser: $(VENV)/.test $(VENV)/.uv constraints/browser.txt
	$(call exactly,$(BIN)/python,constraints/browser.txt)
	@touch $@

web-tools: $(VENV)/.browser

# ---- a Triton server that runs on a CPU, for tests/triton; elsewhere they say NOT CHECKED ----

# $(call own,EXTRAS,GROUP): an environment in the folder of the target.
define own
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(INSTALL) --upgrade 'pip>=25.1'
	$(@D)/bin/python $(INSTALL) --editable '.[$(1)]' --group $(2)
	@touch $@
endef

build/triton/.ready: pyproject.toml
	$(call own,cpu,triton)

triton-check: build/triton/.ready
	OMP_NUM_THREADS=1 build/triton/bin/python -m pytest tests/triton

# ---- a local Ray, for tests/ray; elsewhere those that need it say NOT CHECKED ----

RAY := cpu,ray,serve
build/ray/.ready: pyproject.toml
	$(call own,$(RAY),ray)

ray-check: build/ray/.ready
	OMP_NUM_THREADS=1 build/ray/bin/python -m pytest tests/ray

# ---- longer runs ----

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
	for target in parser loader coder decode deep region labels pictures; do \
		$(BIN)/python -m tests.fuzz.run $$target --minutes $(MINUTES) || exit 1; done

$(VENV)/.mutants: $(VENV)/.test
	$(PIP) --group mutants
	@touch $@

# All modules of tests/mutants.toml take hours; name some.
mutants: $(VENV)/.mutants
	$(BIN)/python -m benchmarks.mutants $(FILES)

conformance: $(VENV)/.demo
	$(BIN)/python -m tests.conformance.run --decoder "$(BIN)/trellic decode {input} {output}"

exactness: $(VENV)/.test
	$(BIN)/python -m benchmarks.exactness --threads 1

# ---- releases: docs/release.md ----

$(VENV)/.release: $(VENV)/.test
	$(PIP) --group release
	@touch $@

build: $(VENV)/.release
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

# What somebody gets who installs the wheel, and nothing of this folder.
build/clean/.ready: build
	$(PYTHON) -m venv --clear build/clean
	build/clean/bin/python $(INSTALL) "$$(ls dist/*.whl)[cpu]"
	@touch $@

release-check: build/clean/.ready
	cd build/clean && bin/trellic encode ../../samples/osprey.png osprey.tlc && bin/trellic info osprey.tlc \
		&& bin/trellic decode osprey.tlc osprey.png && bin/trellic models

sbom: build/clean/.ready
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file dist/trellic.cdx.json build/clean/bin/python
	$(BIN)/pip-licenses --python build/clean/bin/python --from=mixed --with-urls --format=markdown \
		--output-file dist/licences.md
	cat dist/licences.md

# For Linux on x86-64. The floors of pyproject.toml are what lowest.txt installs; tested.txt is what
# ci.txt goes by.
UV_COMPILE := $(UV) pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links --python-platform x86_64-manylinux_2_28
UV_LOCK = $(UV_COMPILE) pyproject.toml --extra cpu
lock: $(VENV)/.demo
	$(PIP) --group lock
	$(UV_COMPILE) --python-version 3.11 --group lock --output-file constraints/uv.txt
	$(UV_LOCK) --python-version 3.11 --extra export --extra training --extra serve --extra data --group dev \
		--constraint constraints/tested.txt --output-file constraints/ci.txt
	$(UV_COMPILE) --python-version 3.11 --group browser --output-file constraints/browser.txt
	$(UV_LOCK) --python-version 3.11 --resolution lowest-direct --group versions --output-file constraints/lowest.txt
	$(UV_LOCK) --python-version 3.13 --group versions --output-file constraints/newest.txt
	$(UV_LOCK) --python-version 3.12 --group gpu-machine --constraint constraints/gpu-machine.in \
		--output-file constraints/gpu-machine.txt

clean:
	rm -rf $(VENV) build dist
