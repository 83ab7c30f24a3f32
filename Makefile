# `make plan`  installs what planning needs into .venv and runs the main job on the shipped example.
# `make test`  checks everything: format, lint, types, layers, tests, and the README's commands.
PYTHON ?= python3
BIN := .venv/bin
EXAMPLE ?= examples/llama-70b-training.toml

.PHONY: plan test release format lint types layers unit docs js mutants lock clean

plan: .venv/.core
	$(BIN)/wattline plan $(EXAMPLE) --html report.html

test: lint types layers unit

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy

layers: .venv/.dev
	$(BIN)/lint-imports

unit: .venv/.dev
	$(BIN)/pytest -n 2 --dist loadgroup

# What a user installs: sdist, wheel, an empty environment outside the checkout, a plan there.
release: .venv/.dev
	$(BIN)/python scripts/check_release.py

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pictures and expected answers are written anew by the code, and the guide is built as a site in build/site.
docs: .venv/.dev
	$(BIN)/python scripts/write_examples.py
	$(BIN)/python scripts/write_docs.py
	$(BIN)/zensical build --strict

# The studio's JavaScript and CSS; needs npm.
js: node_modules
	npm run --silent check

node_modules: package.json
	npm install --silent --no-audit --no-fund --no-package-lock
	touch $@

# Physics broken on purpose: which breaks do the tests notice? A seeded sample; minutes.
mutants: .venv/.dev
	$(BIN)/python scripts/mutants.py

lock: .venv/.dev
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header --python-version 3.11 -q -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-header --python-version 3.11 -q -o requirements-dev.lock

# The stamps make a second run install nothing: they are older only if a lock or the metadata changes.
.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Wattline needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/.core: requirements.lock pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --editable .
	touch $@

.venv/.dev: requirements-dev.lock .venv/.core
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

clean:
	rm -rf .venv node_modules .mypy_cache .ruff_cache .hypothesis report.html
