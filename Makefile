# Each target sets itself up: the first one makes .venv and installs exact versions into it.
#
# PYTHON=python3.12            another interpreter, 3.11 or later
# TORCH_INDEX=URL              one more package index. On Linux, plain torch brings CUDA with it;
#                              https://download.pytorch.org/whl/cpu has builds without.
# FEDMETA_FULL=1 make test-slow   also what takes an hour: every kill on Ray

PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin

# Nothing is reported to anyone, and Flower installs nothing behind our back.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check docs release-check bench clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: .venv/.stamp ## compare methods on generated users
	$(BIN)/fedmeta compare --methods local,fedavg,fedavg-ft,reptile,maml

test: .venv/.stamp ## the tests, without the slow ones
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/.stamp ## the slow tests
	$(BIN)/pytest -m slow

check: .venv/.stamp ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.stamp ## the documentation as pages in site/, which need no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

release-check: .venv/.stamp ## wheel and source archive in dist/, their contents, licences, SBOM
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/python -m experiments.release dist

bench: .venv/.stamp ## speed of the engine and of the ways to run it
	$(BIN)/fedmeta bench engine
	$(BIN)/fedmeta bench flower

clean: ## remove the environment and all caches of tools
	rm -rf .venv build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  "fedmeta needs Python 3.11 or later, $(PYTHON) is %d.%d: make PYTHON=python3.11 ..." % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[offline,dev]' -c constraints.txt \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	@touch $@
