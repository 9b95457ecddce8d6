# `make demo`, `make check` and `make test` do all the set-up; `make help` lists the rest.

PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3))
VENV ?= .venv
PY := $(VENV)/bin/python
# The exact versions; pyproject.toml states ranges.
INSTALL := $(PY) -m pip install --quiet --constraint constraints.txt
WORKERS ?= 2
FIXED ?=
MOVING ?=
OUT ?= demo/out
SETS ?=

.PHONY: help demo check test test-tools ranges lint format bench peers map map-run docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo                        register a phantom pair; FIXED=dir MOVING=dir OUT=dir for your own"
	@echo "make check                       lint, types and unit tests, in minutes: for daily work"
	@echo "make test                        the whole test suite"
	@echo "make ranges                      the wheel beside the oldest and the newest releases that it allows"
	@echo "make lint                        ruff and mypy;  make format  puts the source in form"
	@echo "make bench                       time and memory; FIXED=dir MOVING=dir for your own"
	@echo "make peers                       accuracy and cost beside other programs, for hours; SETS=\"cardiac hippocampus\""
	@echo "make map                         the container image and its bill of materials, into build/map"
	@echo "make map-run                     run the image in a sandbox; FIXED=dir MOVING=dir OUT=dir"
	@echo "make docs                        write what is generated in docs/ anew: tables, diagram, API reference"

demo: $(VENV)/.installed
	$(PY) tools/demo.py $(if $(FIXED),--fixed "$(FIXED)") $(if $(MOVING),--moving "$(MOVING)") --out "$(OUT)"

check: lint
	$(PY) -m pytest tests/unit -n $(WORKERS) --dist worksteal

test: test-tools
	$(PY) -m pytest -n $(WORKERS) --dist worksteal

# What the tests use beside Python: validators of DICOM and the image.
test-tools: $(VENV)/.installed-test
	tools/install_validators.sh
	LAYERS=yes tools/map/build.sh build/map || { [ $$? -eq 3 ] && echo "The tests of the image are skipped."; }

ranges:
	PYTHON=$(PYTHON) tools/ranges.sh

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/.installed-test
	$(PY) -m tools.bench.speed $(if $(FIXED),--fixed "$(FIXED)") $(if $(MOVING),--moving "$(MOVING)")

# Programs of others are installed into build/peers, each in an environment of its own; hours for all sets.
peers: $(VENV)/.installed
	$(PY) -m tools.bench.peers $(if $(SETS),--sets $(SETS)) --write

map: $(VENV)/.installed-test
	PYTHON=$(PY) tools/map/build.sh

map-run:
	tools/map/run.sh "$(FIXED)" "$(MOVING)" "$(OUT)"

docs: $(VENV)/.installed
	$(PY) tools/reference.py --write
	$(PY) tools/rooms.py --write
	$(PY) tools/api.py --write

clean:
	rm -rf $(VENV) demo build dist bundle/*.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(INSTALL) --editable ".[dev]"
	@touch $@

# The authors' own packages, which tests compare with, in a folder aside: torchvision does not load
# beside every torch, and transformers takes another way wherever it finds one.
ORACLES := segment-anything segment-anything-hq torchvision timm

# pydicomrt asks for the opencv with windows; the headless one of the dev extra serves.
# Holoscan links the CUDA runtime even on a CPU: its own folder is where it looks.
# itk takes 1.5 GB, so that no extra brings it along.
$(VENV)/.installed-test: pyproject.toml $(VENV)/.installed-dev
	$(INSTALL) --editable ".[dev,map]" itk
	$(INSTALL) --no-deps pydicomrt
	$(INSTALL) --upgrade --target $(VENV)/oracle --no-deps $(ORACLES)
	SAM2_BUILD_CUDA=0 $(INSTALL) --upgrade --target $(VENV)/oracle --no-deps --no-build-isolation sam2
	cd $(VENV)/lib/python3.*/site-packages && ln -sf ../../nvidia/cu13/lib/libcudart.so.13 holoscan/lib/
	@touch $@
