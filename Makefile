# Everything sets up .venv by itself; needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
# One more than cores: tests over real processes mostly wait.
WORKERS = $(shell expr `nproc` + 1)

.PHONY: torture test nightly nightly-tests lint bench clean help

help:            ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

torture: .venv/ready   ## torture real clusters with the quick suite, about 4 minutes
	$(BIN)/splitbrain suite quick

test: .venv/ready      ## run the tests, about 4 minutes on two cores
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

nightly: .venv/ready   ## nightly-tests, then the nightly suite; takes hours
	$(MAKE) nightly-tests; tests=$$?; $(BIN)/splitbrain suite nightly --baseline last && exit $$tests

nightly-tests: .venv/ready  ## all tests with hundreds of times the examples
	$(BIN)/pytest --numprocesses auto --dist worksteal -m '' --hypothesis-profile nightly

lint: .venv/ready      ## ruff, mypy strict, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/ready     ## measure speed and memory against the budgets
	$(BIN)/splitbrain bench

clean:           ## remove .venv and caches; results stay
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "splitbrain needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt --editable '.[dev,systems]'
	@touch $@
