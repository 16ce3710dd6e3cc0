# Everything runs in .venv; the first target that needs it makes it. DVC's stages call `python`, hence the PATH below.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help repro behaviour original test browser mutants lint docs readability dist deps promote overhead guards \
  harmless benchmark experiment robust gpu clean

PYTHON ?= python3
READY := .venv/ready
ROOT := $(if $(PROFILE),profiles/$(PROFILE),.)
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH" DVC_NO_ANALYTICS=1 ORT_DISABLE_TELEMETRY=1

help: ## list what there is
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

repro: $(READY) ## run the pipeline: data, policy, evaluation, report (PROFILE=name: as params/name.yaml says)
ifdef PROFILE
	$(IN_VENV) python -m tools.profile "$(PROFILE)"
	$(IN_VENV) python -m tools.recover
	$(IN_VENV) DVC_SYSTEM_CONFIG_DIR=.dvc/profile dvc repro "$(ROOT)/dvc.yaml"
else
	$(IN_VENV) python -m tools.recover
	$(IN_VENV) dvc repro
endif

behaviour: $(READY) ## make the behaviour policy that the collection starts from: three rounds, 50 minutes
	$(IN_VENV) sh -ec 'for round in round0 round1 round2; do \
	  python -m tools.profile $$round; \
	  python -m tools.recover; \
	  DVC_SYSTEM_CONFIG_DIR=.dvc/profile dvc repro profiles/$$round/dvc.yaml:export; \
	  cp profiles/$$round/artifacts/policy.onnx policy/behaviour/initial.onnx; done'

original: $(READY) ## the plan that lrpilot came from, at a size for two cores, and docs/original-experiment.md: an hour
	$(IN_VENV) python -m tools.profile plan-mid
	$(IN_VENV) python -m tools.recover
	$(IN_VENV) DVC_SYSTEM_CONFIG_DIR=.dvc/profile dvc repro profiles/plan-mid/dvc.yaml
	$(IN_VENV) PYTHONPATH=. python -m experiments.original.pages.page

# One thread per process, for there is a process for every core. Slow files come first, lest one of them be left alone.
test: lint ## lint, then the tests
	$(IN_VENV) OMP_NUM_THREADS=1 pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	  --durations 20 tests/pipeline tests/experiments tests/tools tests/benchmarks tests/policy tests/runtime

browser: $(READY) ## open the report, and the site if it is built, in Chromium: on a phone and a desk, light and dark
	$(IN_VENV) pytest -q tests/tools/test_browser.py

mutants: $(READY) ## do the tests notice small changes, made in place? docs/mutants.md: hours, kept in .mutants, goes on where it was
	@git diff --quiet || { echo "Commit first: the changes are made in place, and git takes back one that stays" >&2; exit 1; }
	@mkdir -p .mutants
	$(IN_VENV) OMP_NUM_THREADS=1 CI=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 sh -ec 'for config in tools/mutants/*.toml; do \
	  results=.mutants/$$(basename $$config .toml).sqlite; \
	  [ -f $$results ] || { cosmic-ray init $$config $$results; cr-filter-operators $$results tools/mutated_operators.toml; }; \
	  cosmic-ray baseline $$config; cosmic-ray exec $$config $$results; \
	  cr-report --surviving-only --show-diff $$results; done'

lint: docs ## style, spelling, how easily the pages read, types, the direction of imports and the site
	$(IN_VENV) ruff check .
	$(IN_VENV) ruff format --check .
	$(IN_VENV) codespell
	$(IN_VENV) python -m tools.readability
	$(IN_VENV) PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright
	$(IN_VENV) lint-imports

docs: $(READY) ## the documentation as a site, site/index.html, with every link and anchor checked
	$(IN_VENV) NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

readability: $(READY) ## write how easily pages and docstrings read into docs/readability.json (after larger changes of prose)
	$(IN_VENV) python -m tools.readability --write

dist: $(READY) ## build the source archive and the wheel into dist/, check both, and say how large they are
	rm -rf dist
	$(IN_VENV) python -m build --no-isolation
	$(IN_VENV) twine check --strict dist/*
	@wc -c dist/*

deps: $(READY) ## write what each stage imports into dvc.yaml (after a change of imports)
	$(IN_VENV) PYTHONPATH=. python tools/stage_deps.py

promote: $(READY) ## make the policy of the last repro (of PROFILE=name) the one that lrpilot ships
	$(IN_VENV) python -m tools.promote --root "$(ROOT)"

overhead: $(READY) ## measure what the scheduler costs, and say which bar it misses: 12 minutes on an idle machine
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.overhead.measure --check

guards: $(READY) ## inject faults into trainings, with guards and without, and write docs/guards.md: a minute
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.guards.injected

harmless: $(READY) ## healthy small trainings, of which the pilot must ruin none: half an hour, then kept
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.harmless.measure --check

benchmark: $(READY) artifacts/blind.onnx ## the shipped policy beside all rivals, on all held-out tasks: two hours, then kept
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.spread
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.nadamw_rate
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.shipped
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.lr_benchmark
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.guesses
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.encoders

experiment: $(READY) ## what a policy is worth by how it was made (NAME=name; none: list them), from the last collection
	$(IN_VENV) PYTHONPATH=. python -m experiments.policy.variant_study $(NAME)

robust: $(READY) ## the shipped policy in unusual trainings: an hour and a quarter, then kept
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.robust

gpu: $(READY) ## where there is a GPU: its tests, large trainings, what a step costs, docs/gpu.md; elsewhere it says so
	$(IN_VENV) OMP_NUM_THREADS=1 pytest -q -k cuda tests/runtime tests/pipeline/simulation tests/pipeline/workloads
	$(IN_VENV) PYTHONPATH=. python -m benchmarks.gpu.measure

clean: ## remove builds and caches; data, results and .venv stay
	rm -rf build dist site runtime/*.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# The state-blind control of the benchmark, asked for first: without it, the benchmark would fail after its grids.
artifacts/blind.onnx: | $(READY)
	$(IN_VENV) python -m tools.recover
	$(IN_VENV) dvc repro export

# A lock, so that two calls of make at once do not install into each other; what builds the project first, because
# that build is not isolated (an isolated one would fetch a setuptools that no constraint pins).
$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is: $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.11" >&2; exit 1; }
	@if command -v flock >/dev/null; then exec 9>.venv.lock; flock 9; fi; set -e; \
	  echo "Setting up .venv with the packages of constraints.txt: some minutes and 8 GB, once"; \
	  [ -x .venv/bin/pip ] || $(PYTHON) -m venv .venv; \
	  .venv/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt setuptools setuptools-scm; \
	  .venv/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt --no-build-isolation -e '.[train,lightning,transformers,rivals,dev]'; \
	  touch $(READY)
