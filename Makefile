# make demo       a virtual environment, the package, and one video in outputs/
# make test       the test suite
# make test-slow  its slow tests: servers, browsers, notebooks, several processes
# make check      lint, format, types, and imports with core dependencies only
# make docs       the documentation as a site, in site/
# make fix        let ruff repair what it can
#
# Variables: PYTHON (3.11 or newer; found by itself), VENV, PIP_FLAGS. On Linux without an NVIDIA card,
# PIP_FLAGS can name an index that holds a CPU-only torch, which saves gigabytes of download.

VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
PROMPT ?= a panda spins over the snow

.PHONY: demo test test-slow check docs fix clean

demo: $(VENV)/.core-installed
	$(BIN)/show1 generate "$(PROMPT)" --seed 1 -o outputs/panda.mp4 --sheet outputs/panda.png --overwrite

test: $(VENV)/.test-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(VENV)/.test-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

check: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/check_core_imports.py

docs: $(VENV)/.test-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

fix: $(VENV)/.test-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)

$(VENV)/.core-installed: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e .
	touch $@

$(VENV)/.test-installed: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e ".[test]"
	touch $(VENV)/.core-installed $@

# The first Python found that is new enough and can make virtual environments.
$(VENV)/.created:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python; do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "$$python -m venv $(VENV)"; $$python -m venv $(VENV) && touch $@ && exit 0 || exit 1; \
	  fi; \
	  if [ -n "$(PYTHON)" ]; then break; fi; \
	done; \
	echo "show1 needs Python 3.11 or newer with the venv module$(if $(PYTHON),; $(PYTHON) is not one)." >&2; \
	echo "Install one (Debian, Ubuntu: apt install python3.11-venv), or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 1
