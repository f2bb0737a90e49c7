# Each target makes the virtual environment it needs; only Python 3.11+ and pip must be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OHIF ?= 3.13.2

.PHONY: demo check test matrix viewers format clean

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

# Makes results of every kind of source in every state, and has each object judged: some ten minutes.
matrix: $(VENV)/.check
	$(BIN)/python -m pytest -n 2 tests/dicom_node/results/test_matrix.py --matrix

# Looks at our results in OHIF, before a release: needs npm, Chromium, and Orthanc with its DICOMweb plugin. The pictures
# of what was seen are left in .viewers/shots.
viewers: $(VENV)/.check .viewers/$(OHIF)/package/dist/index.html
	$(BIN)/python -m pip install --quiet -e '.[viewers]'
	$(BIN)/python -m pytest tests/viewers --viewer .viewers/$(OHIF)/package/dist --viewer-shots .viewers/shots

.viewers/$(OHIF)/package/dist/index.html:
	mkdir -p .viewers/$(OHIF)
	cd .viewers/$(OHIF) && npm pack --silent @ohif/app@$(OHIF) && tar xzf ohif-app-$(OHIF).tgz

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
