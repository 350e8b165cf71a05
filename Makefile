# The README's commands. Each builds its own environment in .venv first, from nothing but Python and pip.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test fast format clean

demo: $(VENV)/ready ## the flagship pair, from pretrained weights to a report
	$(BIN)/edgecascade bench demo

test: $(VENV)/ready ## lint, types and every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

fast: $(VENV)/ready ## the tests that take seconds
	$(BIN)/pytest -m "not slow"

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch is named first and exactly: any other order can pull a build that is gigabytes larger.
$(VENV)/ready: pyproject.toml benchmarks/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch$$(sed -n 's/^torch\(==[^ ;]*\).*/\1/p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ./benchmarks --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) report build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
