# The whole interface of the repository. `make help` lists it.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# No tool of this pipeline reports home.
export DVC_NO_ANALYTICS := 1
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# DVC's own default is a folder that every user of the machine may write to, and it unpickles what lies there.
export DVC_SITE_CACHE_DIR ?= $(HOME)/.cache/dvc-site

.PHONY: help repro compare test testray verify ui lint mutate audit docs lock clean
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 14

COMPARE := python -m pipeline.commands.compare reports docs/results/digits
# DVC refuses to run where git ignores dvc.lock. The committed one is empty, and git is told not to look at a run's own.
# One with outputs, which somebody committed on purpose, is left to git.
LEAVE_LOCK := git show HEAD:dvc.lock 2>/dev/null | grep -q '^stages:' || git update-index --skip-worktree dvc.lock 2>/dev/null || true

repro: $(VENV)/installed ## set up, run the pipeline, print the table
	@$(LEAVE_LOCK)
	@mkdir -p -m 700 "$$DVC_SITE_CACHE_DIR"
	@begun=$$(date +%s); dvc repro && cat reports/table.md && took=$$(($$(date +%s) - begun)) && \
	  printf '\nThe pipeline took %d min %d s.\n' $$((took / 60)) $$((took % 60))
	@echo
	@$(COMPARE)
	@echo
	@echo "Everything on one page: reports/index.html   Runs: make ui   Metrics: $(VENV)/bin/dvc metrics show"

compare: $(VENV)/installed ## say of each row of reports/ whether it reproduces docs/results/digits
	@$(COMPARE)

TESTS := python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: $(VENV)/installed-dev ## set up, run the tests, but for those on a real Ray
	@$(TESTS)

testray: $(VENV)/installed-dev ## run the tests on a real Ray: its workers, tasks, trials and jobs
	@$(TESTS) -m ray

verify: $(VENV)/installed ## check each row of the table, and the report, against files, sources and runs
	@python -m pipeline.verify reports/table.json

ui: $(VENV)/installed ## open the MLflow UI on the runs, or say where MLFLOW_TRACKING_URI has them
	@python -m pipeline.commands.ui

lint: $(VENV)/installed-dev ## check style and types
	@ruff check . && ruff format --check . && mypy

ONLY ?=
mutate: $(VENV)/installed-dev ## list changes of the core that no test notices: hours, or ONLY='pipeline.ncsn.noise*'
	@test -x .venv-mutate/bin/mutmut || { $(VENV)/bin/python -m venv .venv-mutate && \
	  .venv-mutate/bin/pip install --quiet --disable-pip-version-check mutmut==3.8.1 && \
	  .venv-mutate/bin/python -c 'import pathlib, sys, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "project.pth").write_text(sys.argv[1])' \
	    "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; }
	@.venv-mutate/bin/mutmut run $(if $(ONLY),'$(ONLY)'); .venv-mutate/bin/mutmut results

audit: ## look the locked packages up in the database of known vulnerabilities (needs the network)
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && \
	  .venv-audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1; }
	@.venv-audit/bin/pip-audit --strict --disable-pip -r requirements.lock -r requirements-dev.lock

# --no-compile: pip would write byte code of every file, most of which nothing imports. Python writes it at the first
# import instead, but not where PYTHONDONTWRITEBYTECODE is set: there each process would compile all that it imports.
INSTALL := $(VENV)/bin/pip install --quiet --disable-pip-version-check $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)
# Here and not in the first run, where many processes would do the same at once, and Ray's give up after 30 s.
IMPORTED := ray.dashboard.agent ray.train.torch ray.tune optuna mlflow.tracking dvc.repo.reproduce

# torch is the one package outside the hashed locks: its CPU and CUDA builds differ in bytes but share a
# version, and its own metadata pins the CUDA packages exactly. docs/guides/install.md has the reasons.
$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:3]; sys.exit(v < (3, 11) and f"error: Python {v} is too old: install Python 3.11 or newer, or name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --require-hashes --no-deps -r requirements.lock
	$(INSTALL) torch==2.13.0
	@for name in $(IMPORTED); do $(VENV)/bin/python -c "import $$name"; done
	@touch $@

# What only tests, lint and docs need.
$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(INSTALL) --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

docs: $(VENV)/installed-dev ## build the documentation's site, with warnings as errors: site/index.html
	@python -m mkdocs build --strict --quiet

COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
  --quiet --no-emit-package torch --no-emit-package triton
lock: ## write both locks again from pyproject.toml (needs uv)
	@all=$$(mktemp) && trap 'rm -f "$$all"' EXIT && cat requirements.lock requirements-dev.lock > "$$all" && \
	  left_out() { sed -nE "$$1" "$$2" | tr ' ' '\n' | sed 's/^/--no-emit-package /'; } && \
	  without=$$(left_out 's/^# without: //p' pyproject.toml) && \
	  $(COMPILE) $$without --all-extras -o "$$all" && \
	  $(COMPILE) $$without -c "$$all" -o requirements.lock && \
	  $(COMPILE) $$without --all-extras -c "$$all" $$(left_out 's/^([^ =]+)==.*/\1/p' requirements.lock) -o requirements-dev.lock

clean: ## remove all results and runs, keep the environment
	rm -rf artifacts .runs mlflow.db mlartifacts .dvc/cache .dvc/tmp
