# Every target sets up what it needs: `make demo` and `make test` work in a fresh clone
# on a machine with Python 3.11 or newer and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-from-lock

# The oldest Keras that pyproject.toml admits; tested beside the newest, which the lock pins.
KERAS_OLDEST := 3.10.0
KERAS_OLDEST_DIR := $(VENV)/keras-$(KERAS_OLDEST)
# What leans on Keras; the arithmetic is the same under every version. Mostly on PyTorch,
# which compiles nothing; on JAX, whose trainer differs most between versions, what `fit` does.
KERAS_OLDEST_TESTS := $(addprefix tests/optimizers/test_, \
	fit.py golden.py lookahead.py minimize.py optimizer_v2.py persistence.py)
KERAS_OLDEST_JAX_TESTS := $(addprefix tests/optimizers/test_fit.py::, \
	test_one_cycle_callback_on_beta_1 test_several_steps_in_one_call test_learning_rate_scheduler)

# Triton, which PyTorch's builds for CUDA bring, is not in the environment: a process that has imported
# TensorFlow before it is aborted by the LLVM of the two.
TRITON := 3.9.0
TRITON_DIR := $(VENV)/triton-$(TRITON)

# The oldest backends that pyproject.toml admits, each with the oldest Keras in an environment of its
# own, and what is tested there: training, the originals' steps, fast paths, Lookahead around Keras's.
OLDEST_tensorflow := tensorflow-cpu==2.18.1 llvmlite==0.45.0
OLDEST_jax := jax==0.6.2 jaxlib==0.6.2 llvmlite==0.45.0
OLDEST_torch := torch==2.6.0 llvmlite==0.45.0
VERSIONS_TESTS := $(addprefix tests/optimizers/test_, \
	fast_paths.py fit.py golden.py lookahead.py) $(addprefix tests/engines/test_, \
	jax_loops.py jax_programs.py tensorflow_loops.py torch_loops.py)

BACKEND ?= jax
REPORT ?= surefoot-report
COMPARE_ARGS ?=
BENCH_ARGS ?=
EVIDENCE_ARGS ?=
INSTALL_ARGS ?=
# Each process keeps what it got as long as it has work: tests of a module share what they prepare.
PYTEST_ARGS ?= -n 2 --dist worksteal -q
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)

export TF_CPP_MIN_LOG_LEVEL ?= 3
# Two test processes on two cores: threads of their own would only get in each other's way.
test-%: export OMP_NUM_THREADS ?= 1
# Without files of bytecode, each of some hundred processes compiles the tests or the package anew.
test-%: export PYTHONDONTWRITEBYTECODE :=

.DELETE_ON_ERROR:
.PRECIOUS: $(VENV)-oldest-%/.installed
.NOTPARALLEL:
.PHONY: help demo test lint format types test-tensorflow test-jax test-torch test-oldest \
	test-extended test-triton test-install test-versions test-gpu coverage bench bench-tfa \
	evidence docs pictures links build lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## The main job: compare optimizers on real data, report in surefoot-report/
	KERAS_BACKEND=$(BACKEND) $(BIN)/surefoot compare --overwrite --output $(REPORT) $(COMPARE_ARGS)

test: lint types test-oldest test-triton test-jax test-torch test-tensorflow ## All that CI runs

lint: $(STAMP) ## Lint and check the formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## Format and fix what can be fixed without thought
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## Strict static types
	$(BIN)/mypy

# What does not depend on the backend (the marker `once`) runs with one of them only.
test-jax: $(STAMP) ## Tests and doctests on JAX, and those that need one backend only
	KERAS_BACKEND=jax $(PYTEST)

test-torch: $(STAMP) ## Tests and doctests on PyTorch
	KERAS_BACKEND=torch $(PYTEST) -m "not extended and not once"

test-tensorflow: $(STAMP) ## Tests and doctests on TensorFlow
	KERAS_BACKEND=tensorflow $(PYTEST) -m "not extended and not once"

test-oldest: $(STAMP) $(KERAS_OLDEST_DIR) ## Tests of the optimizers within the oldest supported Keras
	PYTHONPATH=$(KERAS_OLDEST_DIR) $(BIN)/python -c \
		"import keras; assert keras.__version__ == '$(KERAS_OLDEST)', keras.__version__"
	KERAS_BACKEND=torch PYTHONPATH=$(KERAS_OLDEST_DIR) \
		$(PYTEST) -m "not extended and not once" $(KERAS_OLDEST_TESTS)
	KERAS_BACKEND=jax PYTHONPATH=$(KERAS_OLDEST_DIR) \
		$(PYTEST) -m "not extended and not once" $(KERAS_OLDEST_JAX_TESTS)

test-triton: $(STAMP) $(TRITON_DIR) ## Tests of the kernels for GPUs, by Triton's interpreter
	KERAS_BACKEND=torch PYTHONPATH=$(TRITON_DIR) $(PYTEST) tests/kernels

test-versions: test-versions-tensorflow test-versions-jax test-versions-torch ## Oldest backends with oldest Keras

test-versions-%: $(VENV)-oldest-%/.installed
	KERAS_BACKEND=$* $(VENV)-oldest-$*/bin/python -m pytest $(PYTEST_ARGS) \
		-m "not extended and not once" $(VERSIONS_TESTS)

test-extended: $(STAMP) ## The long tests too, on the three backends
	KERAS_BACKEND=jax $(PYTEST) -m extended
	KERAS_BACKEND=torch $(PYTEST) -m "extended and not once"
	KERAS_BACKEND=tensorflow $(PYTEST) -m "extended and not once"

test-install: $(STAMP) ## Wheel and sdist in empty environments, one per backend; INSTALL_ARGS="--help"
	$(BIN)/python -m tests.install $(INSTALL_ARGS)

# Where the backend has its build for CUDA, such as in a container: PYTHON names the interpreter.
test-gpu: ## Tests on a GPU, in an environment of its own: make test-gpu PYTHON=...
	KERAS_BACKEND=torch KERAS_TORCH_DEVICE=cuda PYTHONPATH=src $(PYTHON) -m pytest -q tests/gpu

coverage: $(STAMP) ## Branch coverage over the three backends together
	$(BIN)/coverage erase
	KERAS_BACKEND=jax $(BIN)/coverage run -m pytest -q
	KERAS_BACKEND=torch $(BIN)/coverage run -m pytest -q -m "not extended and not once"
	KERAS_BACKEND=tensorflow $(BIN)/coverage run -m pytest -q -m "not extended and not once"
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

bench: $(STAMP) ## Speed against the peers and the floor; BENCH_ARGS="--help" lists the options
	$(BIN)/python -m benchmarks --output benchmarks/results $(BENCH_ARGS)
	KERAS_BACKEND=$(BACKEND) $(BIN)/python -m docs.pictures

bench-tfa: $(VENV)-tfa/.installed ## The same for the originals, in their own environment
	$(VENV)-tfa/bin/python -m benchmarks --originals --output benchmarks/results $(BENCH_ARGS)

evidence: $(STAMP) ## Run the experiments without a recorded result, write their page; EVIDENCE_ARGS="--help"
	KERAS_BACKEND=jax $(BIN)/python -m evidence $(EVIDENCE_ARGS)

docs: $(STAMP) ## Build the documentation; a warning is an error
	KERAS_BACKEND=$(BACKEND) $(BIN)/sphinx-build -q -n -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

pictures: $(STAMP) ## Draw the pictures of the documentation anew
	KERAS_BACKEND=$(BACKEND) $(BIN)/python -m docs.pictures

links: $(STAMP) ## Ask for every external link of the documentation and README; needs the internet
	KERAS_BACKEND=$(BACKEND) $(BIN)/sphinx-build -q -b linkcheck docs docs/_build/links

build: $(STAMP) ## Build wheel and sdist into dist/
	$(BIN)/hatchling build

lock: ## Resolve the development environment anew and pin it in requirements-dev.lock
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --upgrade pip
	$(VENV)-lock/bin/pip install --editable ".[dev]"
	{ echo "# Made by 'make lock' from pyproject.toml. PyTorch is pinned without its local suffix"; \
	  echo "# (+cpu), so that the pin also fits where that build goes by another name."; \
	  $(VENV)-lock/bin/pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+.*/\1/'; \
	} > requirements-dev.lock
	rm -rf $(VENV)-lock

clean: ## Remove what was built, the environments included
	rm -rf $(VENV) $(VENV)-tfa $(VENV)-lock $(VENV)-oldest-* build dist docs/_build $(REPORT) \
		.jax_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "surefoot needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(KERAS_OLDEST_DIR): $(STAMP)
	rm -rf $@
	$(BIN)/python -m pip install --quiet --no-deps --target $@ keras==$(KERAS_OLDEST)
	touch $@

$(TRITON_DIR): $(STAMP)
	rm -rf $@
	$(BIN)/python -m pip install --quiet --no-deps --target $@ triton==$(TRITON)
	touch $@

$(VENV)-oldest-%/.installed: Makefile pyproject.toml
	rm -rf $(VENV)-oldest-$*
	$(PYTHON) -m venv $(VENV)-oldest-$*
	$(VENV)-oldest-$*/bin/pip install --quiet keras==$(KERAS_OLDEST) $(OLDEST_$*) \
		pytest pytest-xdist scikit-learn
	$(VENV)-oldest-$*/bin/pip install --quiet --no-deps --editable .
	touch $@

$(VENV)-tfa/.installed: benchmarks/requirements-tfa.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] > (3, 11))' || \
		{ echo "TensorFlow 2.14 needs Python 3.11; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)-tfa
	$(VENV)-tfa/bin/pip install --quiet --requirement benchmarks/requirements-tfa.lock
	touch $@
