# What people do with this tree. `make run` and `make test` need a python3 of 3.11 or newer and pip's
# index, no more. The folder's name may hold spaces, so every path here is relative to it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
SAYS := setup.cfg pyproject.toml

# Arguments for what a target starts: make test ARGS="-k dialogue", make faults ARGS="--help".
ARGS ?=

.PHONY: help run test check format interop faults reloads workers fuzz bench bench-full docs man clean

help:
	@echo 'make run      make .venv, install the relay in it, and start it with etc/relay.toml'
	@echo 'make test     the whole test suite, on loopback only'
	@echo 'make check    style, types and layers'
	@echo 'make format   lay the code out as make check wants it'
	@echo 'make interop  tests against real peers (Debian packages; installs them when root)'
	@echo 'make faults   kill the relay again and again under load, and count what was lost'
	@echo 'make reloads  a minute of load, and another configuration each second'
	@echo 'make workers  two minutes of load, and a worker killed every ten seconds'
	@echo 'make fuzz     ten minutes of octets that nobody has thought of'
	@echo 'make bench    how fast it is beside other servers, in at most twenty minutes (ARGS=--quick: six)'
	@echo 'make bench-full  the same with every size, number of sessions and route, in up to two and a half hours'
	@echo 'make docs     the docstrings as pages, in build/docs'
	@echo 'make man      the manual pages in man/, and docs/relayctl.md, as the commands are now'
	@echo 'make clean    remove what the targets above made, and no mail'
	@echo 'ARGS="..." is handed to what test, interop, faults, fuzz and bench start.'

run: $(VENV)/.run
	@exec $(BIN)/relay -c etc/relay.toml

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadgroup --ignore=tests/interop $(ARGS)

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy relay
	for folder in examples/*/; do (cd "$$folder" && ../../$(BIN)/mypy --config-file=../../setup.cfg --cache-dir=../../.mypy_cache .) || exit; done
	$(BIN)/lint-imports

format: $(VENV)/.check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

interop: $(VENV)/.test
	.ci/peers
	$(BIN)/python -m pytest tests/interop $(ARGS)

faults: $(VENV)/.test
	$(BIN)/python -m tests.faults $(ARGS)

reloads: $(VENV)/.test
	RELAY_RELOAD_SECONDS=60 $(BIN)/python -m pytest tests/system/test_reload.py -k LoadTests $(ARGS)

workers: $(VENV)/.test
	RELAY_WORKERS_SECONDS=120 $(BIN)/python -m pytest tests/system/test_workers.py -k KillTests --timeout=300 $(ARGS)

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(VENV)/.test
	$(BIN)/python -m bench $(ARGS)

bench-full: $(VENV)/.test
	$(BIN)/python -m bench --full $(ARGS)

# Status 2 only means that some docstring is no reStructuredText and is shown as it was written.
docs: $(VENV)/.docs
	@$(BIN)/pydoctor -qq --project-name=relay --docformat=restructuredtext --html-output=build/docs relay || [ $$? = 2 ]
	@echo 'see build/docs/index.html'

# They are committed, since what builds a wheel cannot run the commands that they are made of.
man: $(VENV)/.run
	$(BIN)/python -m relay.cli.manual man man
	$(BIN)/python -m relay.cli.manual markdown > docs/relayctl.md

# var/ holds the mail of those who said `make run`: it is not ours to remove.
clean:
	rm -rf $(VENV) build dist relay_mta.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name dropin.cache -type f -delete

# The files below .venv say what is installed there, so that the next call starts at once.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'relay needs Python 3.11 or newer, and $(PYTHON) is older or absent: say make PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo '$(PYTHON) cannot make a virtual environment: on Debian, apt-get install python3-venv'; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.made $(SAYS)
	@echo 'Installing the relay in $(VENV) ...'
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.made $(SAYS)
	@echo 'Installing the relay and what its tests need in $(VENV) ...'
	@$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.check: $(VENV)/.made $(SAYS)
	@echo 'Installing the relay and what checks it in $(VENV) ...'
	@$(PIP) --editable '.[test,check]'
	@touch $@ $(VENV)/.run $(VENV)/.test

# The fuzzer comes as a wheel or not at all: to build it takes a compiler of its own.
$(VENV)/.fuzz: $(VENV)/.made $(SAYS)
	@echo 'Installing the relay and what fuzzes it in $(VENV) ...'
	@$(PIP) --only-binary=atheris --editable '.[test,fuzz]' || \
	  { echo 'make fuzz needs atheris, which has wheels for Python 3.11 to 3.13 on Linux (x86-64)'; exit 1; }
	@touch $@ $(VENV)/.run $(VENV)/.test

$(VENV)/.docs: $(VENV)/.made $(SAYS)
	@$(PIP) --editable '.[docs]'
	@touch $@ $(VENV)/.run
