# Set-up happens by itself: every target that needs the environment makes it first.
# PYTHON is any Python 3.11 or later; EXTRA_PIP reaches pip, for example another index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo check fix test-slow check-wheel check-oldest docs bench bench-smoke clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt $(wildcard src/selfdraft/model/kernels/csrc/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "selfdraft needs Python 3.11 or later: make PYTHON=python3.11")'
	@echo "installing torch and what selfdraft needs into $(VENV) (a few minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)  ## watch the embedded default model write, with and without its draft
	$(BIN)/selfdraft generate smollm2-135m "Write a short story about a robot who learns to paint." --max-new-tokens 128 --compare

check: $(READY)  ## format, lint, types and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 -m "not slow"

fix: $(READY)  ## put format and simple lint right
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-slow: $(READY)  ## the tests on the real default model
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 -m slow

# Both install anew what users may have, and leave the environment of the other targets alone. torch
# is the one of constraints.txt in each: any other build of it is several GB.
check-wheel:  ## the built wheel with the newest of everything else, in a clean environment
	rm -rf build/lib build/bdist.* build/wheel && $(PYTHON) -m venv --clear build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet -c constraints.txt torch
	build/wheel/venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	build/wheel/venv/bin/python -m pip install --quiet "$$(ls build/wheel/*.whl)[serve]"
	cd build/wheel && venv/bin/python ../../tests/clean_install/try_wheel.py ../..

check-oldest:  ## the fast tests with the oldest versions that pyproject.toml admits
	rm -rf build/oldest && $(PYTHON) -m venv --clear build/oldest/venv
	build/oldest/venv/bin/python -m pip install --quiet -c constraints.txt torch
	build/oldest/venv/bin/python -m pip install --quiet -c constraints-oldest.txt -e '.[dev]'
	build/oldest/venv/bin/python -m pytest -q -n auto --maxprocesses 4 -m "not slow" -W ignore::DeprecationWarning

docs: $(READY)  ## write docs/cli.md from the commands' own help
	$(BIN)/python -m selfdraft.cli.reference > docs/cli.md

bench: $(READY)  ## overhead of speculation on a planted target, as in docs/experiments.md
	$(BIN)/python -m research overhead smollm2-135m

bench-smoke: $(READY)  ## a small benchmark from prompts to page; fails if a draft changed a text
	rm -rf bench-results/smoke bench-results/smoke-stream.json
	$(BIN)/selfdraft bench run smollm2-135m --methods transformers,transformers-lookup,off,swift --limit 8 --max-new-tokens 24 --costs --out bench-results/smoke
	$(BIN)/selfdraft bench report bench-results/smoke
	$(BIN)/python -m research stream smollm2-135m --drafts swift,auto --categories story,code --per-category 2 --max-new-tokens 24 --out bench-results/smoke-stream.json

clean:  ## remove the environment and caches of tools
	rm -rf $(VENV) build src/selfdraft/model/kernels/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
