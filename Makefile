# make run: the whole method on the embedded benchmark. make test: everything that can be checked.
# make compare, make ablations: the studies of notebooks 08, 13 and 14, hours on two cores; each goes on after a stop.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev,notebooks

# How long a thread waits for the other before it sleeps. By default so long that on a busy machine each waits for a core
# that the other holds, six times slower than one thread alone; this short wait costs nothing where both cores are idle.
export GOMP_SPINCOUNT ?= 1000

.PHONY: run test test-fast torture lint oldest compare ablations lab check book assignments grade clean

run: $(VENV)/installed
	$(BIN)/python -m mini_lib execute notebooks/07_the_full_pipeline.ipynb notebooks/params/mini.yaml

# A process for each core, a file at a time: more threads in each would only be in each other's way. A5's sweep takes minutes; test_a5.py
# reads what is saved.
test: $(VENV)/course $(VENV)/book
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder tests notebooks \
	    --nbval-lax --nbval-current-env --nbval-cell-timeout=900 --ignore=notebooks/assignments/A5_an_experiment.ipynb

# For those who develop: no notebooks, no browser, no nbgrader, nothing that takes long.
test-fast: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal -m "not slow" tests

# Kills at any moment, some minutes of them; a small form is part of `make test`, and so are all of a download's.
torture: $(VENV)/course
	OMP_NUM_THREADS=1 TQDM_DISABLE=1 $(BIN)/python tests/torture.py
	$(BIN)/python -m pytest -q tests/benchmarks/test_archives.py -k killed

lint: $(VENV)/installed
	$(BIN)/ruff check mini_lib tests
	$(BIN)/ruff format --check mini_lib tests
	$(BIN)/pyright --pythonpath $(BIN)/python mini_lib

# Exactly the lower bounds of pyproject.toml, on the oldest Python: PYTHON=python3.11 make oldest
oldest:
	$(PYTHON) tests/oldest.py > $(VENV)-oldest.txt
	$(PYTHON) -m venv --clear $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --constraint $(VENV)-oldest.txt --editable '.[$(EXTRAS)]'
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest -n logical --maxprocesses 4 --dist worksteal -m "not slow" tests

compare: $(VENV)/installed
	$(BIN)/python -m mini_lib compare tuning
	$(BIN)/python -m mini_lib compare

ablations: $(VENV)/installed
	$(BIN)/python -m mini_lib ablations
	$(BIN)/python -m mini_lib selectors

lab: $(VENV)/installed
	$(BIN)/jupyter lab notebooks/00_the_whole_story.ipynb

check: $(VENV)/installed
	$(BIN)/python -m mini_lib check

# All notebooks as a site that is read without a network: build/book/index.html.
book: $(VENV)/course $(VENV)/book
	$(BIN)/python -m mini_lib book

# The students' versions of the graded assignments; grade: points and feedback, SUBMISSIONS/<student>/<assignment>/*.ipynb.
# SANDBOX=bwrap or docker puts it around each submission, on a Linux machine that has it.
assignments: $(VENV)/course
	$(BIN)/python -m mini_lib assignments

grade: $(VENV)/course
	@test -n "$(SUBMISSIONS)" || { echo "Which submissions? make grade SUBMISSIONS=folder"; exit 1; }
	$(BIN)/python -m mini_lib grade $(if $(SANDBOX),--sandbox "$(SANDBOX)") -- "$(SUBMISSIONS)"

$(VENV)/course $(VENV)/book: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[$(@F)]'
	touch $@

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

# Results in runs/ and points given by hand in build/assignments/ stay: nobody's work is removed.
clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-oldest.txt $(filter-out build/assignments,$(wildcard build/*))
