PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test lint docs tutorials coverage package small annotators clean

install: $(INSTALLED)  ## make .venv and install the package into it

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("cell-lm needs Python 3.11 or newer; say make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install  ## pretrain on the packaged cells, embed, annotate, report
	$(BIN)/cell-lm demo --out demo --force

test: install  ## the whole suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations=40 --durations-min=5

lint: install  ## style, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install  ## the documentation site, in docs/_build/html; a warning is an error
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --jobs auto docs docs/_build/html

coverage: install  ## the suite with coverage: a table on the terminal, htmlcov/index.html (TESTS=tests/cli for a part)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --cov-report=html $(TESTS)

package: install  ## sdist and wheel: built, looked into, installed in an empty environment, quick demo
	$(BIN)/python scripts/check_package.py --demo

tutorials: install  ## run the tutorials and keep their outputs; ONLY="1 2" runs these
	$(BIN)/python scripts/run_tutorials.py $(ONLY)

small: install  ## make the packaged model again from DATA, a folder that holds cells/
	$(BIN)/python scripts/make_small_model.py --cells $(DATA)/cells --out src/cell_lm/resources/models/small

annotators: install  ## make the ready annotators again from DATA, a folder that holds cells/
	$(BIN)/python scripts/make_annotators.py --cells $(DATA)/cells --out src/cell_lm/resources/annotators

clean:
	rm -rf $(VENV) demo docs/_build docs/api .mypy_cache .ruff_cache .pytest_cache htmlcov .coverage
