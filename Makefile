# On a fresh machine: `make demo` installs what ranking needs (1.1 GB, mostly torch), `make test` the rest beside it.
PYTHON ?= python3
BIN := .venv/bin
# one thread a test process: two of them on two cores are many times quicker so than with two threads each
test test-slow test-all quick: export OMP_NUM_THREADS = 1
# a process that may not keep bytecode parses torch and every other library anew: 12 s instead of 3
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
LOOPS := $(shell grep -rl --include="*.py" "compiled" ecg_gym)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test quick test-slow test-all check docs precompile package mutants conformance clean

.venv/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --no-compile "torch==2.13.0"
	$(INSTALL) --no-compile --editable .
	touch $@

.venv/.ready: .venv/.demo
	$(INSTALL) --no-compile --editable ".[rl,train,test,dev,docs]"
	touch $@

demo: .venv/.demo  ## rank treatments for the default patient; prints a table, saves a picture
	$(BIN)/ecg-gym demo --out out/demo

test: .venv/.compiled  ## the fast tests
	$(PYTEST) -m "not slow"

test-slow: .venv/.compiled  ## the slow ones alone: envs and checks on the trained weights (half a minute)
	$(PYTEST) -m slow

test-all: .venv/.compiled  ## everything, studies included
	$(PYTEST)

quick: .venv/.ready  ## the fast tests of one package, such as `make quick PKG=planners`
	$(BIN)/python -m pytest -m "not slow" tests/$(PKG)

mutants: .venv/.ready  ## do the tests bite? 100 small mutations, each met by the nearest tests (an hour on two cores)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[mutants]"
	$(BIN)/python -m conformance.mutants

precompile: .venv/.compiled  ## compile the loops once, in two processes, where two test processes would both do it

.venv/.compiled: .venv/.ready $(LOOPS)
	$(BIN)/python -m ecg_gym.precompile
	touch $@

check: .venv/.ready  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.ready  ## the documentation site in out/site; a broken link or an undocumented public name fails
	$(BIN)/mkdocs build --strict

package: .venv/.ready  ## wheel and sdist in out/dist, checked
	rm -rf out/dist
	$(BIN)/python -m build --outdir out/dist
	$(BIN)/python -m twine check --strict out/dist/*

conformance: .venv/.ready  ## other people's checks, in environments of their own (15 minutes, 6 GB, mostly torch)
	$(BIN)/python -m conformance

clean:
	rm -rf .venv .conformance build *.egg-info out
