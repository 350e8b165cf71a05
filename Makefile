# Each command first builds the environment it needs, with nothing but Python and pip.
# WORKERS: processes of pytest, or `auto` for one per core.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= auto
# Tests of one file share servers and models: they stay on one worker. tests/conftest.py puts the slow files first.
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
WHEEL_TESTS = tests/types tests/runtime/test_cascade.py tests/runtime/test_run_command.py tests/runtime/test_serve_cascade.py \
	tests/runtime/test_reload.py tests/calibration/test_plan.py tests/calibration/test_decision.py
MINIMUM_TESTS = tests/runtime/test_cascade.py tests/runtime/test_local_model.py tests/runtime/test_reload.py \
	tests/runtime/test_serve_cascade.py tests/calibration/test_decision.py
PIP = $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo flagship test fast wheel-test minimum-test format figures docs dist clean

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

# The tests see the wheels and no source but the example in C, the npm package and the pages.
wheel-test: $(VENV)/ready ## the tests that take seconds each, on the built wheels, with the source deleted
	rm -rf build/wheel-test dist
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/python -m build --wheel --outdir dist benchmarks
	mkdir -p build/wheel-test
	cp -r tests pyproject.toml constraints.txt CHANGELOG.md build/wheel-test
	$(PYTHON) -m venv build/wheel-test/venv
	build/wheel-test/venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=24"
	build/wheel-test/venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		"$$(echo dist/edgecascade-*.whl)[cpu,calibration,clean,export,gateway,grpc,plan,serve,video]" \
		dist/edgecascade_benchmarks-*.whl pytest filelock hypothesis jsonschema prometheus-client opentelemetry-sdk
	cd build/wheel-test && venv/bin/python -m pytest -q -m "not slow" -o pythonpath=tests $(WHEEL_TESTS)

minimum-test: ## a device with the oldest versions that its extras allow, on the Python that runs this
	rm -rf build/minimum
	$(PYTHON) -m venv build/minimum
	$(PYTHON) .ci/minimum.py cpu images serve calibration > build/minimum/constraints.txt
	build/minimum/bin/python -m pip install --quiet --disable-pip-version-check --constraint build/minimum/constraints.txt \
		".[cpu,images,serve,calibration]" onnx pytest hypothesis filelock
	build/minimum/bin/python -m pytest -q -m "not slow" $(MINIMUM_TESTS)

dist: $(VENV)/ready ## the source and wheels that a release publishes
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --outdir dist benchmarks

format: $(VENV)/ready ## style, in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

figures: $(VENV)/ready ## the marked figures and the pictures of README.md and docs/, from the committed results
	$(BIN)/python tests/test_documentation.py
	$(BIN)/python tests/test_licences.py
	cd benchmarks && $(abspath $(BIN))/python -m studies.pictures

docs: $(VENV)/ready ## the site of the documentation, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

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
	rm -rf $(VENV) report site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
