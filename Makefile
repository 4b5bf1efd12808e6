# make run: the whole method on the embedded benchmark. make test: everything that can be checked.
# make compare, make ablations: the studies of notebooks 08, 13 and 14, hours on two cores; each goes on after a stop.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test compare ablations lab check book assignments grade clean

run: $(VENV)/installed
	$(BIN)/python -m mini_lib execute notebooks/07_the_full_pipeline.ipynb notebooks/params/mini.yaml

# A process for each core, a file at a time: more threads in each would only be in each other's way.
test: $(VENV)/course $(VENV)/book
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

compare: $(VENV)/installed
	$(BIN)/python -m mini_lib compare tuning
	$(BIN)/python -m mini_lib compare

ablations: $(VENV)/installed
	$(BIN)/python -m mini_lib ablations choices
	$(BIN)/python -m mini_lib ablations parts
	$(BIN)/python -m mini_lib ablations length
	$(BIN)/python -m mini_lib selectors

lab: $(VENV)/installed
	$(BIN)/jupyter lab notebooks/00_the_whole_story.ipynb

check: $(VENV)/installed
	$(BIN)/python -m mini_lib check

# All notebooks as a site that is read without a network: build/book/index.html.
book: $(VENV)/course $(VENV)/book
	$(BIN)/python -m mini_lib book

# The students' versions of the graded assignments; grade: points and feedback, SUBMISSIONS/<student>/<assignment>/*.ipynb.
assignments: $(VENV)/course
	$(BIN)/python -m mini_lib assignments

grade: $(VENV)/course
	@test -n "$(SUBMISSIONS)" || { echo "Which submissions? make grade SUBMISSIONS=folder"; exit 1; }
	$(BIN)/python -m mini_lib grade "$(SUBMISSIONS)"

$(VENV)/course $(VENV)/book: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[$(@F)]'
	touch $@

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs build
