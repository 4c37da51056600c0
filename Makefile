PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench install lint clean

## see a U-Net trained and an image and a volume segmented, in about four minutes
demo: $(VENV)/installed
	$(BIN)/unet-med demo

## the whole suite and the linters
test: $(VENV)/tested lint
	PYTHONUTF8=1 $(BIN)/python -m pytest -n 2

## speed against peers and limits on this machine, written into docs/reference/benchmarks.md
bench: $(VENV)/benched
	OMP_NUM_THREADS=1 PYTHONUTF8=1 $(BIN)/python -m benchmarks

lint: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell unet_med docs workflows benchmarks README.md CONTRIBUTING.md CHANGELOG.md

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[track]"
	touch $@

$(VENV)/tested: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group test --group lint
	touch $@

# elasticdeform's wheels are built for NumPy 1: it is built here
$(VENV)/benched: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt wheel setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation \
		--no-binary elasticdeform --editable ".[bench]"
	touch $@

clean:
	rm -rf $(VENV) demo
