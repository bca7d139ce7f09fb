# Everything installs into .venv; a fresh machine needs Python 3.11 or newer and a package index, nothing else.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Libraries are installed without bytecode; the first import writes it, or every process would compile them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install quickstart gate test test-full check docs format task-index schema clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --no-compile torch==2.13.0
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[quickstart,bm25,dev,docs]"
	touch $(STAMP)

quickstart: install
	$(BIN)/run-benchmark configs/quickstart.yaml
	$(BIN)/write-report results/quickstart --output results/quickstart/report.html
	@cat configs/quickstart/takeaways.txt

gate: quickstart
	$(BIN)/check-regression results/quickstart --baseline results/baselines/quickstart.json

# One thread per worker: two that both use all cores wait for each other.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not full" --numprocesses auto --dist loadfile

test-full: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

task-index: install
	$(BIN)/python -m evaluation.tasks.build_index --output evaluation/tasks/index.json

schema: install
	$(BIN)/python -m evaluation.config.schema

clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
