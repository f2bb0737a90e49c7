# Each target makes the virtual environment it needs; only Python 3.11+ and pip must be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo check test format clean

# Sets up and runs the main job: three studies from C-STORE to SR, SEG and a raised worklist entry.
demo: $(VENV)/.demo
	$(BIN)/dicom-node demo

# Sets up and passes the tests: format, lint, types, import contracts, tests.
check: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2

test: $(VENV)/.check
	$(BIN)/python -m pytest -n 2

format: $(VENV)/.check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[node,worker]'
	touch $@

$(VENV)/.check: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[node,worker,cluster,dev]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV)
