# make run: the whole method on the embedded benchmark. make test: everything that can be checked.
# make compare, make ablations: the studies of notebooks 08 and 13, hours on two cores; each goes on after a stop.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test compare ablations lab check clean

run: $(VENV)/installed
	$(BIN)/python -m mini_lib.execute notebooks/07_the_full_pipeline.ipynb notebooks/params/mini.yaml

test: $(VENV)/installed
	$(BIN)/python -m pytest

compare: $(VENV)/installed
	$(BIN)/python -m mini_lib.compare tuning
	$(BIN)/python -m mini_lib.compare methods

ablations: $(VENV)/installed
	$(BIN)/python -m mini_lib.compare choices
	$(BIN)/python -m mini_lib.compare ablations

lab: $(VENV)/installed
	$(BIN)/jupyter lab notebooks/00_the_whole_story.ipynb

check: $(VENV)/installed
	$(BIN)/python -m mini_lib.environment

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs
