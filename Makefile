# Two commands matter: `make book` and `make test`. `make help` lists the others.
#
# TORCH=cpu   on Linux without a GPU: the CPU build of torch instead of the CUDA one
# JOBS=4      how many chapters are executed at a time (default: half the cores)
# PORT=8000   where `make serve` listens

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8000
TORCH  ?=
JOBS   ?=

BIN := $(VENV)/bin
RUN := $(BIN)/python
STAMP := $(VENV)/.installed
EXECUTE := $(RUN) -m tools.execute $(if $(JOBS),--jobs $(JOBS))

.DEFAULT_GOAL := help
.PHONY: help setup assets book test unit lab serve clean baselines chapter lock lint format repository

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: assets ## execute the chapters and build the HTML book
	@$(EXECUTE)
	@$(RUN) -m tools.book

test: assets ## run everything: unit tests, every notebook, the built book, the baselines
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@$(RUN) -m pytest -q -m "not built"
	@$(EXECUTE)
	@$(RUN) -m tools.book
	@$(RUN) -m tools.baselines compare
	@$(RUN) -m pytest -q -m built

unit: setup ## run the unit tests only
	@$(RUN) -m pytest -q -m "not built"

lab: assets ## open the chapters in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=notebooks

serve: book ## build the book and serve it on localhost
	@echo "http://localhost:$(PORT)/"; $(RUN) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

setup: $(STAMP) ## install the pinned packages into .venv

assets: setup ## fetch and verify the models and data sets
	@$(RUN) -m helpers.assets fetch

baselines: assets ## execute what changed, then refresh tests/baselines and show the difference
	@$(EXECUTE)
	@$(RUN) -m tools.baselines refresh

chapter: setup ## create an empty chapter: make chapter NAME=17-my-idea
	@$(RUN) -m tools.chapter "$(NAME)"

lint: setup ## ruff, on code and notebooks
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: setup ## let ruff mend what it can; strip outputs from notebooks
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/nbstripout --keep-id notebooks/*.ipynb

lock: setup ## resolve pyproject.toml anew into the lock files and environment.yml
	@$(RUN) -m tools.lock

repository: setup ## write the repository's address from pyproject.toml to where it is shown
	@$(RUN) -m tools.repository

clean: ## delete what was built; keep .venv and the asset cache
	@rm -rf _build book/_generated .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(STAMP): requirements.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is missing or older than Python 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: $(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@[ -x $(RUN) ] || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (a few minutes)"
	@[ "$(TORCH)" != cpu ] || { $(RUN) -m pip install -qq uv && \
	  VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --torch-backend cpu \
	    "$$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' requirements.lock)"; }
	@$(RUN) -m pip install -qq --require-hashes --no-deps -r requirements.lock
	@if $(RUN) -c 'import importlib.metadata as m, sys; sys.exit("nvidia" not in str(m.requires("torch")))'; \
	  then $(RUN) -m pip install -qq --require-hashes --no-deps -r requirements-cuda.lock; fi
	@$(RUN) -m pip install -qq --no-deps --no-build-isolation --editable .
	@$(RUN) -m pip check >/dev/null || { $(RUN) -m pip check; exit 1; }
	@touch $(STAMP)
