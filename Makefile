# make demo [SOURCE=rtsp://... | file | 0] [KEEP=1]    install what runs, and show it; KEEP=1: go on, with the page
# make test                                  install everything, lint, test
# make lint
# make bench [PRECISION=int8]                measure this machine, into docs/benchmarks
# make audit                                 known weaknesses of what is installed; build/sbom.json

PYTHON ?= python3
SOURCE ?=
KEEP ?=
PRECISION ?= auto
VENV := .venv
BIN := $(VENV)/bin

# Without an NVIDIA GPU a released build is named, so that package indexes with CPU builds can answer with a small one.
TORCH ?= $(if $(shell command -v nvidia-smi 2>/dev/null),torch,torch==2.13.0)

SUBMAKE = $(MAKE) --no-print-directory# by another name, so that make -n test runs no test

.PHONY: demo test lint lint-style lint-types lint-tensorrt bench audit clean

demo: $(VENV)/.installed-demo
	@$(BIN)/trunkline demo $(if $(SOURCE),--source '$(SOURCE)') $(if $(KEEP),--keep)

# What failed in the crowd is judged once more, alone: many tests watch a clock. Types are checked meanwhile, on one core.
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

# Known weaknesses of what is installed here (asks the advisories of PyPI and OSV), and a CycloneDX bill of materials.
audit: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check 'pip-audit>=2.7,<3'
	@mkdir -p build
	$(BIN)/pip-audit --local --skip-editable --format cyclonedx-json --output build/sbom.json; status=$$?; \
	  $(BIN)/pip-audit --local --skip-editable || exit 1; test -s build/sbom.json || exit $$status

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
