# Each command first builds the environment it needs, with nothing but Python and pip.
# WORKERS: processes of pytest, or `auto` for one per core.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= auto
# Tests of one file share servers and models: they stay on one worker. tests/conftest.py puts the slow files first.
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PIP = $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo flagship test fast format figures clean

demo: $(VENV)/demo ## a pair of models without torch, from public data to a report
	$(BIN)/edgecascade bench demo

flagship: $(VENV)/ready ## the image pair of the README's figures, from pretrained weights to a report
	$(BIN)/edgecascade bench demo --pair flagship

test: $(VENV)/ready ## style, types and every test
	@echo "==> style: ruff (seconds)"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "==> types: mypy --strict (about a minute)"
	$(BIN)/mypy
	@echo "==> every test, on all cores (about 10 minutes on two; the first run also downloads models and data, 0.5 GB,"
	@echo "    and installs other people's servers and runtimes, 2 GB, into the cache folder)"
	$(BIN)/pytest $(PARALLEL)

fast: $(VENV)/ready ## the tests that take seconds each
	$(BIN)/pytest $(PARALLEL) -m "not slow"

format: $(VENV)/ready ## style, in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

figures: $(VENV)/ready ## the marked figures of README.md and docs/, from the committed results
	$(BIN)/python tests/test_documentation.py

$(VENV)/demo: pyproject.toml benchmarks/pyproject.toml constraints.txt
	@echo "==> an environment for the demo in $(VENV): 0.6 GB, once, in about a minute on a good line"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=24"
	$(PIP) --editable ".[cpu]" --editable "./benchmarks[languages]"
	touch $@

# torch is named first and exactly: any other order can pull a build that is gigabytes larger.
$(VENV)/ready: pyproject.toml benchmarks/pyproject.toml constraints.txt
	@echo "==> an environment for development in $(VENV): about 2.4 GB, once, in a few minutes on a good line"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --upgrade "pip>=24"
	@echo "==> 1 of 2: PyTorch, the largest part"
	$(PIP) "torch$$(sed -n 's/^torch\(==[^ ;]*\).*/\1/p' constraints.txt)"
	@echo "==> 2 of 2: edgecascade itself, what its parts need, and the tools"
	$(PIP) --editable ./benchmarks --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) report build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
