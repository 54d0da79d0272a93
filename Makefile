# make demo   three epochs with and without a cache, on an image folder made for it (or ROOT=…)
# make test   lint, types and all tests of the core and every plugin
# make bench  ratios against named peers
# make torture  processes that share a cache while one of them is killed every 50 ms
# make fuzz   a longer search for bytes that the codec takes for something they are not

PYTHON ?= python3
ROOT ?=
DEMO_ARGS ?=
FUZZ_SECONDS ?= 120
TORTURE_SECONDS ?= 600

VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/*))
EXAMPLES := examples/kappa_lmdb
PROJECTS := pyproject.toml constraints.txt $(addsuffix /pyproject.toml,$(PLUGINS) $(EXAMPLES))
# Not compiled: most of what torch and the tools bring is never imported.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	-c constraints.txt
PACKAGES := $(notdir $(PLUGINS) $(EXAMPLES))

.PHONY: demo test lint types unit wheels bench fuzz torture clean

demo: $(VENV)/.demo
	$(BIN)/python demo/run.py $(if $(ROOT),--root "$(ROOT)") $(DEMO_ARGS)

test: lint
	@$(MAKE) --no-print-directory -j 3 types unit wheels
	@echo "All tests passed."

lint: $(VENV)/.dev
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet

types: $(VENV)/.dev
	$(BIN)/mypy -p kappacore $(addprefix -p ,$(PACKAGES)) -p support
	$(BIN)/mypy demo benchmarks tests/typing

unit: $(VENV)/.dev
	$(BIN)/pytest -q -n 4 --dist worksteal  # they wait for processes more than they compute

# Wheels as users get them, in an environment without this checkout: the core alone, then each
# plugin alone beside it.
wheels: $(VENV)/.dev
	$(BIN)/python tests/wheels/check.py

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.cache_hit
	$(BIN)/python -m benchmarks.codec
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.shared
	$(BIN)/python -m benchmarks.redis
	$(BIN)/python -m benchmarks.imagefolder
	$(BIN)/python -m benchmarks.wrappers
	$(BIN)/python -m benchmarks.staging --small

fuzz: $(VENV)/.dev
	$(BIN)/python tests/kappacore/caching/codec/fuzz.py --seconds $(FUZZ_SECONDS)

torture: $(VENV)/.dev
	$(BIN)/python tests/kappa_shared/torture.py --seconds $(TORTURE_SECONDS)

$(VENV)/.base: $(PROJECTS)
	@echo "Installing kappacore and its plugins into $(VENV) (a minute or two) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(PIP) -e . $(foreach plugin,$(PLUGINS),-e ./$(plugin))
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@$(PIP) --group dev $(addprefix -e ./,$(EXAMPLES))
	@touch $@

$(VENV)/.demo: $(VENV)/.base
	@$(PIP) --group demo
	@touch $@

# Peers without what they ask for: they need none of it here, and torchvision does not install.
$(VENV)/.bench: $(VENV)/.base
	@$(PIP) --group bench
	@$(PIP) --no-deps kappadata==0.0.8 stocaching==0.2.1 UltraDict==0.0.6
	@touch $@

clean:
	rm -rf $(VENV) dist build demo/data demo/*.png .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
