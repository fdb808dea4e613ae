# `make demo` and `make test` are the two main commands; each creates .venv if necessary.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MELFAST := $(BIN)/melfast
UV ?= $(shell command -v uv 2>/dev/null)
CORE_SOURCES := setup.py CMakeLists.txt $(shell find csrc -type f 2>/dev/null)

.PHONY: setup demo test coverage mutations chaos test-sanitize lint docs bench clean

setup: $(VENV)/.ready

# Uses uv if it is installed, otherwise the one that pip installs into the environment.
$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"melfast needs Python 3.11 to 3.13, found {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt $(CORE_SOURCES) | $(BIN)/python
	$(if $(UV),,test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --constraint constraints.txt uv)
	$(if $(UV),$(UV),$(BIN)/uv) pip install --quiet --python $(BIN)/python \
	  --constraint constraints.txt --build-constraint constraints.txt --reinstall-package melfast --editable '.[test,lint,docs]'
	@touch $@

# The main workflow, each step as a user would type it (make prints the commands).
demo: setup
	rm -rf demo
	$(MELFAST) synth demo/data --images 2000 --size 300x225 --sheet demo/sheet.png
	$(MELFAST) prepare all demo/data --output demo/manifest.csv --no-dedup --no-resize
	$(MELFAST) train --config configs/quickstart.yaml --data-path demo/manifest.csv --output-dir demo/run
	$(MELFAST) evaluate --checkpoint demo/run --split valid
	$(MELFAST) evaluate --checkpoint demo/run --split test
	$(MELFAST) export --checkpoint demo/run --format onnx --output demo/model.onnx
	$(MELFAST) predict --model demo/model.onnx --images demo/data/images --output demo/predictions.csv
	@echo "Look at: demo/sheet.png (the images), demo/run (checkpoints, logs, curves.png),"
	@echo "         demo/run/evaluation/test/report/report.html (performance by group),"
	@echo "         demo/model.onnx (the classifier, self-contained), demo/predictions.csv"
	@echo "To put melfast on the path: . $(BIN)/activate"

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

# Lines of melfast/ that the tests run, including commands that a test starts.
coverage: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --cov=melfast --cov-report=term-missing:skip-covered --cov-fail-under=90

# Breaks one expression of the tone table, decode, losses, metrics or plan at a time; a test must fail.
mutations: setup
	$(BIN)/python tests/mutations.py

# Tries to break the commands: kills, mutated tables and pictures, bad folders. 15 minutes.
chaos: setup
	$(BIN)/python tests/chaos.py

# The kernels' tests on a core that stops at any wrong address or undefined behaviour: a second
# installation of the package, which stands before the first one on the path.
SANITIZE := build/sanitize
test-sanitize: setup
	rm -rf $(SANITIZE)
	MELFAST_SANITIZE=1 $(if $(UV),$(UV),$(BIN)/uv) pip install --quiet --python $(BIN)/python --no-deps \
	  --refresh-package melfast --build-constraint constraints.txt --target $(SANITIZE) .
	export PYTHONPATH=$(CURDIR)/$(SANITIZE):$(CURDIR) PYTHONSAFEPATH=1 ASAN_OPTIONS=detect_leaks=0 \
	  LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" && \
	$(BIN)/python -c 'from melfast import _core; assert b"__asan_init" in open(_core.__file__, "rb").read()' && \
	$(BIN)/pytest -n auto --dist loadfile tests/core tests/skin

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pylint melfast  # no two places share more than 8 lines
	$(BIN)/clang-format --dry-run --Werror $(shell find csrc -name '*.cpp' -o -name '*.h')
	$(BIN)/hadolint Dockerfile.cpu Dockerfile.gpu
	$(BIN)/nbstripout --verify --extra-keys metadata.language_info docs/notebooks/*.ipynb
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

# The site, notebooks run (MELFAST_DOCS_NOTEBOOKS=off: not run). Any warning is an error; all are told.
docs: setup
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --builder html docs build/docs
	@echo "Look at: build/docs/index.html"

# On drawn images and, where there are some, on real ones.
REAL = $(or $(MELFAST_TEST_DATA),../shared/data)
bench: setup
	$(BIN)/python benchmarks/run.py all --data drawn --json build/bench/drawn.json
	test ! -d $(REAL) || $(BIN)/python benchmarks/run.py all --json build/bench/real.json

clean:
	rm -rf $(VENV) build demo runs *.egg-info melfast/*.so
