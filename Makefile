# make demo: the whole pipeline on the bundled data.  make test: lint and all tests.
# Another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# the stages' `python` is the environment's
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test

demo: $(VENV)/.installed
	$(BIN)/python -m stages.dvc_files
	$(BIN)/dvc pull data.dvc
	$(BIN)/dvc repro
	$(BIN)/dvc plots show
	$(BIN)/python -m stages.metrics_table
	@echo "for pictures and charts open out/report.html"

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --durations=10 -n auto --dist loadfile --no-loadscope-reorder

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is missing or older than 3.11; name another one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# a stamp is newer than what it was installed from, so a second run installs nothing
$(VENV)/.installed: requirements.txt pyproject.toml | $(BIN)/python
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.installed-test: requirements-test.txt $(VENV)/.installed
	$(PIP) install -r requirements-test.txt
	touch $@
