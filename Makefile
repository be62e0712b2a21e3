# Two commands for a newcomer: `make demo` and `make test`. They make their own .venv; nothing else is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check

FLOW := runs/energy-flow
# energy matching from a potential that is there: its second phase alone
JOINT := train.transport_steps=0 train.steps=150 train.lr=3e-4 train.lr_joint=none train.ema_decay=0.95 train.ema_joint=none
# how far a student follows the descent of energy matching, without noise: there it is about as good as its chains
STUDENT := train.eta=0.02 train.horizon=1.5

.PHONY: demo energy-flow test lint bench gpu clean

demo: $(VENV)/.has-demo  ## install, train a ConvEnergy by PCD on real digits, write runs/demo
	rm -rf runs/demo
	$(BIN)/ebm train digits --out runs/demo

energy-flow: $(VENV)/.has-demo  ## digits: a flow, the potential nearest to it, energy matching from there, a student of that
	rm -rf $(FLOW)
	$(BIN)/ebm train digits --method flow --out $(FLOW)/flow
	$(BIN)/ebm train digits --method projection --init $(FLOW)/flow --out $(FLOW)/projection
	$(BIN)/ebm train digits --method em --init $(FLOW)/projection --out $(FLOW)/em --set $(JOINT)
	$(BIN)/ebm train digits --method student --init $(FLOW)/em --out $(FLOW)/student --set $(STUDENT)

test: $(VENV)/.has-test  ## install, then the whole suite, a process a core; ends with a line per twin
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/.has-test  ## style, imports and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.has-bench  ## every bench case, validated against the oracle, then timed against the peers installed
	$(BIN)/python -m bench
	$(BIN)/python -m bench table

gpu:  ## on a machine with a card: check, sanitize, time, profile; uses PYTHON as it is, installs nothing
	PYTHONPATH=. $(PYTHON) -m bench.gpu $(ARGS)

clean:  ## the environment and the caches; runs/ is left alone
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.has-demo: EXTRAS := cpu,cli,data,plot
$(VENV)/.has-test: EXTRAS := test
$(VENV)/.has-bench: EXTRAS := bench
$(VENV)/.has-%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable ".[$(EXTRAS)]"
	touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python >= 3.11 is needed; name one with PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
