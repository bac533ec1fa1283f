# make demo [SOURCE=rtsp://... | file | 0] [KEEP=1]    install what runs, and show it; KEEP=1: go on, with the page
# make test                                  install everything, lint, test
# make lint
# make bench [PRECISION=int8]                measure this machine, into docs/benchmarks
# make audit                                 known weaknesses of what the containers install; build/sbom.json
# make lock                                  what the containers install, anew: requirements-*.lock

PYTHON ?= python3
SOURCE ?=
KEEP ?=
PRECISION ?= auto
VENV := .venv
BIN := $(VENV)/bin

# Without an NVIDIA GPU a released build is named, so that package indexes with CPU builds can answer with a small one.
TORCH ?= $(if $(shell command -v nvidia-smi 2>/dev/null),torch,torch==2.13.0)

SUBMAKE = $(MAKE) --no-print-directory# by another name, so that make -n test runs no test

.PHONY: demo test lint lint-style lint-types lint-tensorrt bench audit lock clean

demo: $(VENV)/.installed-demo
	@$(BIN)/trunkline demo $(if $(SOURCE),--source '$(SOURCE)') $(if $(KEEP),--keep)

# What failed in the crowd is judged once more, alone: many tests watch a clock. Types are checked meanwhile, on one core.
# Bytecode is kept whatever the environment says, else each of hundreds of processes compiles all that it imports.
test: export PYTHONDONTWRITEBYTECODE =
test: lint-style
	@nice $(SUBMAKE) lint-types & types=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal || \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none; tests=$$?; \
	wait $$types && exit $$tests

lint: lint-style lint-types
	$(BIN)/lint-imports --no-logo  # which is a test, too

lint-style: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lint-types: $(VENV)/.installed-test
	$(BIN)/mypy --strict
	@$(MAKE) --no-print-directory lint-tensorrt

# Our calls against the types of NVIDIA's own bindings, the newest 10 and 11; skipped with a sentence without them.
lint-tensorrt: $(VENV)/.installed-test
	@$(BIN)/python tests/fakes/nvidia_stubs.py build/nvidia || true
	@for version in 10 11; do \
	  if [ -d build/nvidia/$$version/stubs ]; then \
	    echo "TensorRT $$version"; \
	    MYPYPATH=build/nvidia/$$version/stubs $(BIN)/mypy --strict engines/backends/trt*.py || exit 1; \
	  fi; \
	done

bench: $(VENV)/.installed-demo
	$(BIN)/trunkline benchmark --clip 1080p --fps 30 --precision $(PRECISION) --save docs/benchmarks/1080p
	$(BIN)/trunkline benchmark pipeline streams --clip 720p --streams 8 --fps 30 --precision $(PRECISION) --save docs/benchmarks/720p

# A CycloneDX bill of materials of what is installed here, checked against CycloneDX's schema; and known weaknesses of what
# the containers install, from PyPI's advisories: what they do not answer for is a failure, not a good sign.
audit: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check 'pip-audit>=2.7,<3' 'cyclonedx-bom>=7,<8'
	@mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate --output-file build/sbom.json $(BIN)/python
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements-cpu.lock --requirement requirements-tensorrt.lock

# Versions and hashes of all that the containers install, the newest that pyproject.toml allows; tests/test_locks.py.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
  --custom-compile-command 'make lock' --upgrade

lock: $(VENV)/.created
	$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	echo 'setuptools>=77' | $(LOCK) pyproject.toml - --extra run --extra integrations --extra metrics --extra web --output-file requirements-cpu.lock
	printf 'setuptools>=77\ncuda-bindings>=12.9,<14\n' | $(LOCK) pyproject.toml - --extra import --output-file requirements-tensorrt.lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Trunkline needs Python 3.11 or newer, this is %d.%d: name one with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Two stamps for one environment: the demo stays small and never waits for torch.
$(VENV)/.installed-demo: $(VENV)/.created pyproject.toml
	@rm -rf *.egg-info  # of an older layout would hide the entry points of this one
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.created pyproject.toml
	@rm -rf *.egg-info
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile '$(TORCH)' --editable '.[test]'
	@touch $@
