# make demo [SOURCE=rtsp://... | file | 0]    install what runs, and show it
# make test                                  install everything, lint, test
# make lint | make bench

PYTHON ?= python3
SOURCE ?=
VENV := .venv
BIN := $(VENV)/bin

# Without an NVIDIA GPU a released build is named, so that package indexes with CPU builds can answer with a small one.
TORCH ?= $(if $(shell command -v nvidia-smi 2>/dev/null),torch,torch==2.13.0)

.PHONY: demo test lint bench clean

demo: $(VENV)/.installed-demo
	@$(BIN)/trunkline demo $(if $(SOURCE),--source '$(SOURCE)')

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.installed-demo
	@$(BIN)/trunkline benchmark

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Trunkline needs Python 3.11 or newer, this is %d.%d: name one with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Two stamps for one environment: the demo stays small and never waits for torch.
$(VENV)/.installed-demo: $(VENV)/.created pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.created pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@
