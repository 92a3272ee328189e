# Everything is set up inside this clone: .venv/ (Python packages) and .runtime/ (MicroPython, broker, checkers).
# `make clean` takes both away again. Another Python: make PYTHON=python3.12 setup

PYTHON ?= python3
RUN := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench clean moved
# An environment holds absolute paths: in a clone that was copied or moved it is made anew.
HERE := $(shell [ "$$(cat .venv/.installed 2>/dev/null)" = "$(CURDIR)" ] && echo yes)

moved:

help:
	@echo "make demo    set up, then a simulated meter's readings through the firmware to a broker, on the screen"
	@echo "make test    set up, then the whole suite (lint, types and mpy-cross are part of it)"
	@echo "make lint    set up, then lint, types, mpy-cross and the import rules only"
	@echo "make bench   set up, then speed and memory of the decoder beside others"
	@echo "make setup   only set up: .venv/ and .runtime/ in this directory; nothing is installed on the system"
	@echo "make clean   remove .venv/, .runtime/ and what tools left behind"

setup: .venv/.installed
	@$(RUN) -m optoprobe.runtime

# The demo can do without MicroPython (it says so then), so a part that cannot be had does not stop it here.
demo: .venv/.installed
	@$(RUN) -m optoprobe.runtime || echo "Going on without it."
	@.venv/bin/optoprobe demo

# One worker more than there are processors, as many tests wait; a file stays with one worker.
test: setup
	@$(RUN) -m pytest -n $$(( $$($(RUN) -c 'import os; print(os.cpu_count())') + 1 )) --dist loadfile --no-loadscope-reorder

lint: setup
	@$(RUN) -m pytest tests_host/test_code_rules.py

bench: setup
	@$(RUN) tests_host/bench.py

clean:
	rm -rf .venv .runtime .pytest_cache .ruff_cache build optoprobe.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml $(if $(HERE),,moved)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "optoprobe needs Python 3.11 or newer as $(PYTHON); name one: make PYTHON=python3.12 setup" >&2; exit 1; }
	@echo "Installing optoprobe and its Python packages into $(CURDIR)/.venv (about 20 s, nothing outside this clone) ..."
	@test "$(HERE)" || $(PYTHON) -I tools/optoprobe/runtime.py venv .venv
	@$(RUN) -m pip install --quiet --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@echo "$(CURDIR)" > $@
