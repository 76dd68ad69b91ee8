# Fresh machine: `make run` and `make test` set everything up themselves.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RAY_STAMP := $(VENV)/.ray-installed
BENCH_VENV := .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed
EXPORTS := OMP_NUM_THREADS=1 DAGSTER_HOME=$(CURDIR)/dagster_home

.DEFAULT_GOAL := help
.PHONY: help install run test test-slow test-ray e2e test-faults security check wheel ui plan docs bench \
	bench-features bench-train bench-profile bench-plan clean

help:  ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## Install the project and its tools into .venv

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: install  ## Sample -> production checkpoint -> signals, through Dagster (about 5 minutes)
	@$(EXPORTS) $(BIN)/python -m tft_assets.demo

test: install  ## Install and run the test suite (10 minutes; half an hour on a slow machine)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not gpu and not e2e"

test-slow: install  ## The long suites
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

test-ray: $(RAY_STAMP)  ## Folds on a two-node Ray cluster, artifacts in S3, on this machine (5 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests/assets/test_ray.py \
		tests/core/training_pipeline/test_artifacts.py

# dagster-ray and ray agree with constraints.txt, so they go into the same environment
$(RAY_STAMP): $(STAMP) deploy/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -c deploy/constraints.txt -e '.[dev,ray,s3]' 'moto[server]>=5.2'
	@touch $@

e2e: install  ## The UI in a real browser (Debian's chromium), screenshots into docs/ (5 minutes)
	@command -v chromium >/dev/null || [ -n "$$CHROMIUM" ] || \
		{ echo "make e2e needs chromium: apt-get install chromium" >&2; exit 1; }
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m e2e tests/e2e

test-faults: install  ## Kill, cut, fill, damage, attack the registry; table into docs/RELIABILITY.md
	@command -v strace >/dev/null || \
		{ echo "make test-faults needs strace: apt-get install strace" >&2; exit 1; }
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --write docs/RELIABILITY.md

security: .venv-security/.installed  ## bandit (findings beyond the answered ones) and pip-audit
	.venv-security/bin/bandit -q -r tft_core tft_assets -b tests/bandit_baseline.json
	.venv-security/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

# apart from .venv: their own dependencies are none of the project's
.venv-security/.installed:
	$(PYTHON) -m venv .venv-security
	.venv-security/bin/python -m pip install --quiet --disable-pip-version-check \
		bandit==1.9.4 pip-audit==2.10.1
	@touch $@

wheel: install  ## Build the wheel into dist/; it runs where there is no checkout
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	@ls dist/*.whl

check: install  ## What CI would refuse: lint, types, import walls, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(MAKE) test

ui: install  ## Open the Dagster UI on http://127.0.0.1:3000
	@$(BIN)/tft pages & pages=$$!; trap "kill $$pages 2>/dev/null" EXIT INT TERM; \
	$(EXPORTS) env --default-signal=INT,QUIT $(BIN)/dagster dev -w workspace.yaml

plan: install  ## The runs that a build would make now, with the time each is expected to take
	@$(EXPORTS) $(BIN)/python -m tft_assets.plan

bench-features: install  ## Measure the 292 features beside pandas and polars
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.features

docs: install  ## Write docs/features.md, and the API's reference into docs/reference/
	@$(BIN)/python -m tft_core.features.catalogue_page > docs/features.md
	@$(BIN)/python docs/make_reference.py

bench: install  ## Measure speed on this machine
	@$(BIN)/python -m benchmarks.lifecycle

bench-train: $(BENCH_STAMP)  ## The training step beside other libraries' TFTs (own .venv-bench)
	@$(BENCH_VENV)/bin/python -m benchmarks.train_step

bench-profile: install  ## Where a training step's time goes, and its floor
	@$(BIN)/python -m benchmarks.step_profile

bench-plan: install  ## The plan's whole job on two cores (an hour or so)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.plan_job

# pytorch-forecasting wants an older pandas than the one pinned: an environment of its own
$(BENCH_STAMP): pyproject.toml constraints.txt benchmarks/constraints.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	grep -v '^pandas==' constraints.txt > $(BENCH_VENV)/constraints.txt
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		-c $(BENCH_VENV)/constraints.txt -c benchmarks/constraints.txt -e '.[bench]'
	@touch $@

clean:  ## Remove state and caches (not .venv)
	rm -rf var build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
	find dagster_home -mindepth 1 -not -name dagster.yaml -delete
