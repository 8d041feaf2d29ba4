# Two commands matter: `make book` and `make test`. `make help` lists the others.
#
# TORCH=cpu   on Linux without a GPU: the CPU build of torch instead of the CUDA one
# JOBS=4      how many chapters, and tests, run side by side (default: as many as cores; two tests)
# PORT=8000   where `make serve` listens
# UPGRADE=1   let `make lock` move every version to the newest that fits

PYTHON  ?= python3
VENV    ?= .venv
PORT    ?= 8000
TORCH   ?=
JOBS    ?=
UPGRADE ?=

BIN := $(VENV)/bin
RUN := $(BIN)/python
STAMP := $(VENV)/.installed
BROWSER := tests/browser
# npm writes this file when all packages are in place.
PACKAGES := $(BROWSER)/node_modules/.package-lock.json
EXECUTE := -m tools.execute $(if $(JOBS),--jobs $(JOBS))
# One thread for each test: two tests side by side are quicker than one with two threads.
PYTEST := env OMP_NUM_THREADS=1 $(RUN) -m pytest -q
BESIDE := -n $(or $(JOBS),2) --dist
# The unit tests: what needs no built book and no environment of its own.
UNIT := -m "not built and not rehearsal and not colab" $(BESIDE) worksteal
# A rehearsal runs chapters side by side itself, and says which (-s).
REHEARSAL := env HF_DATASETS_DISABLE_PROGRESS_BARS=1 $(PYTEST) -m rehearsal -s
# Each of the processes opens a browser of its own.
BUILT := -m built $(BESIDE) worksteal
PHASES := $(RUN) -m tools.phases
UV := $(RUN) -m uv
# The version of torch that the lock holds, as a requirement.
TORCH_PIN = "$$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' requirements.lock)"

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(MAKEFILE_LIST))

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: assets ## execute the chapters and build the HTML book
	@$(PHASES) -- chapters $(RUN) $(EXECUTE) -- book $(RUN) -m tools.book

test: assets packages ## run everything: unit tests, a rehearsal of full, every notebook, the book
	@$(PHASES) \
	  -- lint $(BIN)/ruff check --quiet . \
	  -- format $(BIN)/ruff format --quiet --check . \
	  -- "unit tests" $(PYTEST) $(UNIT) \
	  -- rehearsal $(REHEARSAL) \
	  -- chapters $(RUN) $(EXECUTE) \
	  -- book $(RUN) -m tools.book \
	  -- baselines $(RUN) -m tools.baselines compare \
	  -- Lighthouse $(RUN) -m tools.lighthouse \
	  -- "built book" $(PYTEST) $(BUILT)

unit: setup ## run the unit tests only
	@$(PYTEST) $(UNIT)

rehearsal: assets ## run the full profile against a small Hub on this machine
	@$(REHEARSAL) --durations=5

offline: assets ## run all tests without any network but loopback
	@.ci/offline $(MAKE) --no-print-directory test

twice: assets ## execute every notebook a second time and compare all figures to the last digit
	@$(RUN) $(EXECUTE) $(NAME)
	@rm -rf _build/twice
	@env HANDBOOK_BUILD=_build/twice $(RUN) $(EXECUTE) $(NAME)
	@env HANDBOOK_BUILD=_build/twice $(RUN) -m tools.baselines compare --first-run _build/checks

bad-input: assets ## try many more wrong inputs on what a reader calls, other ones each time
	@BAD_INPUT=8 $(PYTEST) $(BESIDE) worksteal tests/test_bad_input.py

colab: assets ## run the quickest notebook, set-up and all, as alone in Colab
	@$(PYTEST) -m colab tests/test_colab.py

colab-all: assets ## run every notebook, whole, as alone in Colab
	@COLAB=all $(PYTEST) -m colab tests/test_colab.py

newest: assets ## run tests and chapters on the newest versions, and compare the figures
oldest: assets ## the same on the oldest versions that pyproject.toml admits
newest: RESOLUTION := highest
oldest: RESOLUTION := lowest-direct
# Without TORCH=cpu, a lane keeps the lock's torch, as pip finds it.
newest oldest: LANE = _build/lanes/$@
newest oldest:
	@rm -rf $(LANE)
	@$(UV) venv --quiet --python $(RUN) $(LANE)/.venv
	@[ -n "$(TORCH)" ] || $(RUN) -m pip --python $(LANE)/.venv install -qq --no-deps $(TORCH_PIN)
	@$(UV) pip install --quiet --python $(LANE)/.venv --resolution $(RESOLUTION) \
	  $(if $(TORCH),--torch-backend=$(TORCH)) --editable ".[book,test,author]"
	@$(UV) pip install --quiet --python $(LANE)/.venv pip setuptools
	@$(UV) pip freeze --python $(LANE)/.venv > $(LANE)/versions.txt
	@$(MAKE) --no-print-directory lane LANE=$(LANE) VENV=$(LANE)/.venv

# In the environment of a lane; what is built there lies beside it.
.PHONY: lane
lane:
	@$(PHASES) --keep-going \
	  -- "unit tests" $(PYTEST) $(UNIT) --junitxml=$(LANE)/unit.xml \
	  -- chapters env HANDBOOK_BUILD=$(LANE) $(RUN) $(EXECUTE) \
	  -- baselines env HANDBOOK_BUILD=$(LANE) $(RUN) -m tools.baselines compare

lab: assets ## open the chapters in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=. --preferred-dir=notebooks

serve: book ## build the book and serve it on localhost
	@$(RUN) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

reports: book packages ## ask a browser about every page, and Lighthouse; reports in _build/reports
	@$(RUN) -m tools.lighthouse
	@$(PYTEST) $(BESIDE) worksteal tests/test_pages*.py

screenshots: book ## photograph pages, light and dark, desktop and phone
	@$(RUN) -m tools.screenshots $(NAME)

setup: $(STAMP) ## install the pinned packages into .venv

packages: $(PACKAGES) ## fetch axe and Lighthouse with npm, for the tests in a browser

assets: setup ## fetch and verify the models and data sets
	@$(RUN) -m helpers.assets fetch

baselines: assets ## execute what changed, then refresh tests/baselines and show the difference
	@$(RUN) $(EXECUTE)
	@$(RUN) -m tools.baselines refresh

chapter: setup ## create an empty chapter: make chapter NAME=17-my-idea
	@$(RUN) -m tools.chapter "$$NAME"

lint: setup ## ruff, on code and notebooks
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: setup ## let ruff mend what it can; strip outputs from notebooks
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/nbstripout --keep-id notebooks/*.ipynb

lock: setup ## write the lock files and environment.yml; a version that still fits stays
	@$(RUN) -m tools.lock $(if $(UPGRADE),--upgrade)

repository: setup ## write the repository's address from pyproject.toml to where it is shown
	@$(RUN) -m tools.repository

vendor: setup ## fetch the typesetter and the icons of the pages anew (needs npm)
	@$(RUN) -m tools.vendor

clean: ## delete what was built; keep .venv and the asset cache
	@rm -rf _build book/api .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(STAMP): requirements.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is missing or older than Python 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: $(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@[ -x $(RUN) ] || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (a few minutes)"
	@[ "$(TORCH)" != cpu ] || { $(RUN) -m pip install -qq uv && \
	  VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --torch-backend cpu $(TORCH_PIN); }
	@$(RUN) -m pip install -qq --require-hashes --no-deps -r requirements.lock
	@if $(RUN) -c 'import importlib.metadata as m, sys; sys.exit("nvidia" not in str(m.requires("torch")))'; \
	  then $(RUN) -m pip install -qq --require-hashes --no-deps -r requirements-cuda.lock; fi
	@$(RUN) -m pip install -qq --no-deps --no-build-isolation --editable .
	@$(RUN) -m pip check >/dev/null || { $(RUN) -m pip check; exit 1; }
	@touch $(STAMP)

# Without npm, or without a network, the tests that need these packages say so and are skipped;
# in continuous integration they fail.
$(PACKAGES): $(BROWSER)/package.json $(BROWSER)/package-lock.json $(BROWSER)/.npmrc
	@if command -v npm >/dev/null 2>&1; then \
	  echo "Installing axe and Lighthouse into $(BROWSER)"; \
	  { cd $(BROWSER) && npm ci --silent && touch node_modules/.package-lock.json; } || \
	    { echo "note: npm could not fetch axe and Lighthouse" >&2; [ -z "$${CI:-}" ]; }; \
	else echo "note: npm was not found, so axe and Lighthouse are left out" >&2; fi
