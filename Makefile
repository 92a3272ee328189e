# Everything is set up inside this clone: .venv/ (Python packages) and .runtime/ (MicroPython, broker, checkers).
# `make clean` takes both away again. Another Python: make PYTHON=python3.12 setup

comma := ,
PYTHON ?= python3
RUN := .venv/bin/python
# Ctrl-C is for the set-up alone, which says one line: make and the shell add nothing of their own.
QUIETLY = trap '' INT; $(1) || [ $$? = 130 ]
SET_UP := PYTHONPATH=tools:lib $(PYTHON) -s -m optoprobe.environment.clone
.DEFAULT_GOAL := help
ARGS ?=
.PHONY: help setup demo demo-setup flash webflash test lint bench damage sbom clean moved
# An environment holds absolute paths: in a clone that was copied or moved it is made anew.
moved_from = $(if $(filter $(CURDIR),$(shell cat .venv/.installed-$(1) 2>/dev/null)),,moved)

moved:

help:
	@echo "make demo    set up what it needs, then a simulated meter's readings through the firmware, on the screen"
	@echo "make flash   set up what it needs, then MicroPython, the probe and your settings onto a board at USB"
	@echo "make webflash  the same from a page in your browser; ARGS=... hands options on to either"
	@echo "make test    set up, then the whole suite (lint, types and mpy-cross are part of it)"
	@echo "make lint    set up, then lint, types, mpy-cross and the import rules only"
	@echo "make bench   set up, then speed and memory of the decoder beside others"
	@echo "make damage  set up, then damaged telegrams of every protocol, for long: what is believed and wrong"
	@echo "make sbom    set up, then a bill of materials (CycloneDX) in sbom.cdx.json"
	@echo "make setup   only set up: .venv/ and .runtime/ in this directory; nothing is installed on the system"
	@echo "make clean   remove .venv/, .runtime/ and what tools left behind"

setup: .venv/.installed-dev-bench
	@$(call QUIETLY,$(RUN) -m optoprobe.environment.runtime)

# The demo can do without MicroPython (it says so then), so a part that cannot be had does not stop it here.
demo: demo-setup
	@.venv/bin/optoprobe demo

demo-setup: .venv/.installed-base
	@trap '' INT; $(RUN) -m optoprobe.environment.runtime micropython mosquitto umqtt >/dev/null || [ $$? = 130 ] || echo "Going on without it."

flash: .venv/.installed-flash
	@.venv/bin/optoprobe flash $(ARGS)

webflash: .venv/.installed-flash
	@.venv/bin/optoprobe webflash --serve $(ARGS)

# Three workers more than there are processors, as many tests wait; a file stays with one worker.
# Thousands of processes start: each would else compile all it imports, where PYTHONDONTWRITEBYTECODE is set.
test: export PYTHONDONTWRITEBYTECODE :=
test: setup
	@$(RUN) -m pytest -n $$(( $$($(RUN) -c 'import os; print(os.cpu_count())') + 3 )) --dist loadgroup --no-loadscope-reorder

lint: setup
	@$(RUN) -m pytest tests_host/test_code_rules.py

bench: setup
	@$(RUN) tests_host/bench.py
	@$(RUN) tests_host/bench_asked.py
	@$(RUN) tests_host/bench_mbus.py

damage: setup
	@PYTHONPATH=tests_host $(RUN) -m support.damage

sbom: setup
	@$(RUN) -m optoprobe.environment.sbom sbom.cdx.json

clean:
	rm -rf .venv .runtime .pytest_cache .ruff_cache build optoprobe.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "optoprobe needs Python 3.11 or newer as $(PYTHON); name one: make PYTHON=python3.12 $@" >&2; exit 1; }
	@echo "Installing optoprobe and its Python packages into $(CURDIR)/.venv (nothing outside this clone) ..."
	@$(call QUIETLY,$(SET_UP) $(1))
endef

.venv/.installed-base: pyproject.toml $(call moved_from,base)
	$(call environment,base)

.venv/.installed-flash: pyproject.toml $(call moved_from,flash)
	$(call environment,flash)

.venv/.installed-dev-bench: pyproject.toml $(call moved_from,dev-bench)
	$(call environment,dev$(comma)bench)
