# `make demo` and `make test` set themselves up in .venv and need Python 3.11 or later; see CONTRIBUTING.md.
# Tests also start Apache Kafka (Java 17, Maven, openssl), a browser (chromium) and node (AsyncAPI, with npm).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := schemas infra ingest detectors sinks training console standgale
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test lint format unit integration faults coverage rules-engine campaign edge-campaign stream-campaign jobs-campaign outs-campaign mutations bench eval train train-test faust-test house lock documents clean

help:
	@echo "make demo    run the whole pipeline on this machine, with simulated drones"
	@echo "make test    lint, and all tests with real servers, in three processes; WORKERS=6: in six"
	@echo "make lint    check style, types, import rules and generated documents"
	@echo "make format  format the code and sort its imports"
	@echo "make unit | integration | faults   the tests of one tier"
	@echo "make rules-engine  fetch Trealla Prolog for rules (needs npm)"
	@echo "make coverage  measure the branch coverage of all tests but the faults"
	@echo "make campaign EVENTS=1000 BROKER=embedded SEED=7   random faults on a running fleet; BROKER: embedded, kafka, kafka3"
	@echo "make edge-campaign FRAMES=10000 CUTS=20 SEED=7   the edge client through outages and power cuts"
	@echo "make stream-campaign FRAMES=10000 SEED=7   frames by WebSocket through outages of everything behind it"
	@echo "make jobs-campaign JOBS=1000 SEED=7   many jobs and clients at once; then a job through kills of everything"
	@echo "make outs-campaign SEED=7   each sink killed 20 times, and everything that sinks write to broken; BROKER: embedded, kafka"
	@echo "make mutations COUNT=100000 SEED=1   mutated inputs through everything that reads bytes; failing ones in mutations/"
	@echo "make bench   measure the speed; prints tables, writes bench/results/*.json"
	@echo "make eval    measure the mAP of the shipped model on unseen scenes, tiled and whole-frame;"
	@echo "             PHOTOGRAPHS=folder: on labelled photographs instead"
	@echo "make train   train the shipped model again (installs torch); PHOTOGRAPHS=folder: on photographs, too,"
	@echo "             START=model.onnx: from the weights of a model"
	@echo "make train-test  test the network and its loss (installs torch)"
	@echo "make faust-test  test the statistics that Faust counts (an environment of its own)"
	@echo "make house   print figures of the source tree: sizes, imports between rooms, circles"
	@echo "make documents  generate the JSON Schemas and the AsyncAPI document"
	@echo "make lock    resolve the lock files"
	@echo "make clean   remove the environments, .standgale, caches and results"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/demo.lock pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements/demo.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements/dev.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo

$(VENV)/.train: requirements/train.lock pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements/train.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/standgale demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.documents check
	$(BIN)/python -m schemas.compatibility

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The parser of AsyncAPI's authors, where npm is installed; without it the tests that use it are skipped, in CI they fail.
ASYNCAPI := tests/asyncapi/node_modules/.done
$(ASYNCAPI): tests/asyncapi/package-lock.json
	@command -v npm >/dev/null || { echo "npm not found: the AsyncAPI document is not checked"; exit 0; }; \
	  cd tests/asyncapi && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch node_modules/.done

# A Kafka client in JavaScript and a compiler for the types of events, as programs outside have them; see docs/consume.md.
CONSUMERS := tests/consumers/node_modules/.done
$(CONSUMERS): tests/consumers/package-lock.json
	@command -v npm >/dev/null || { echo "npm not found: the client in JavaScript is not tested"; exit 0; }; \
	  cd tests/consumers && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch node_modules/.done

# Tests start hundreds of processes, and pytest rewrites all test modules: without byte code on disk each does it again.
unexport PYTHONDONTWRITEBYTECODE

# Trealla Prolog for rules, where npm is installed; without it the tests that use it are skipped, in CI they fail.
RULES_ENGINE := detectors/rules/engines/module/trealla.wasm
$(RULES_ENGINE): detectors/rules/engines/module/package-lock.json detectors/rules/engines/module/build.py
	@command -v npm >/dev/null || { echo "npm not found: rules run in SWI-Prolog only"; exit 0; }; \
	  $(PYTHON) detectors/rules/engines/module/build.py && touch $@

rules-engine:
	$(PYTHON) detectors/rules/engines/module/build.py

# Tests that share a server stay in one process, see tests/conftest.py. A third of their time is waiting for a clock or a
# disk, so one process more than others get keeps two cores busy.
WORKERS ?= 3
PARALLEL = -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
test: lint $(ASYNCAPI) $(CONSUMERS) $(RULES_ENGINE) .venv-client/.done
	$(BIN)/pytest $(PARALLEL)

unit: $(VENV)/.dev $(RULES_ENGINE)
	$(BIN)/pytest $(PARALLEL) tests/unit

integration: $(VENV)/.dev $(ASYNCAPI) $(CONSUMERS) $(RULES_ENGINE) .venv-client/.done
	$(BIN)/pytest tests/contract tests/integration tests/browser

faults: $(VENV)/.dev
	$(BIN)/pytest tests/faults

coverage: $(VENV)/.dev $(ASYNCAPI) $(CONSUMERS) $(RULES_ENGINE)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) tests/unit tests/contract tests/integration tests/browser
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

EVENTS ?= 100
BROKER ?= embedded
campaign: $(VENV)/.dev
	$(BIN)/python -m tests.campaign --events $(EVENTS) --broker $(BROKER) $(if $(SEED),--seed $(SEED))

FRAMES ?= 10000
CUTS ?= 20
edge-campaign: $(VENV)/.dev
	$(BIN)/python -m tests.campaign.edge --frames $(FRAMES) --power-cuts $(CUTS) $(if $(SEED),--seed $(SEED))

stream-campaign: $(VENV)/.dev
	$(BIN)/python -m tests.campaign.stream --frames $(FRAMES) $(if $(SEED),--seed $(SEED))

JOBS ?= 1000
jobs-campaign: $(VENV)/.dev
	$(BIN)/python -m tests.campaign.jobs load --jobs $(JOBS)
	$(BIN)/python -m tests.campaign.jobs kills $(if $(SEED),--seed $(SEED))

outs-campaign: $(VENV)/.dev
	$(BIN)/python -m tests.campaign.outs --broker $(BROKER) $(if $(SEED),--seed $(SEED))

COUNT ?= 100000
mutations: $(VENV)/.dev
	$(BIN)/python -m tests.mutations --count $(COUNT) $(if $(SEED),--seed $(SEED))

# A generator of clients, which needs other versions of some packages; without it the test that uses it is skipped.
.venv-client/.done: requirements/client.lock
	$(PYTHON) -m venv .venv-client
	.venv-client/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/client.lock
	@touch $@

# Only the benchmark against SAHI needs SAHI, so it has a separate environment.
.venv-sahi/.done: requirements/sahi.lock
	$(PYTHON) -m venv .venv-sahi
	.venv-sahi/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/sahi.lock
	@touch $@

# Faust needs other versions of some packages than the rest, so `make test` skips the tests of it.
.venv-faust/.done: requirements/faust.lock pyproject.toml
	$(PYTHON) -m venv .venv-faust
	.venv-faust/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/faust.lock
	.venv-faust/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# They wait more than they compute, so two processes have a broker each.
faust-test: .venv-faust/.done
	@.venv-faust/bin/python -c "import faust"  # without it the tests would be skipped
	.venv-faust/bin/python -m pytest -n 2 --dist loadfile -k "not plain" tests/contract/statistics tests/faults/test_faust_killed.py

bench: $(VENV)/.dev .venv-sahi/.done
	BENCH_SAHI_PYTHON=.venv-sahi/bin/python $(BIN)/python -m bench

eval: $(VENV)/.demo
	$(BIN)/python -m training.evaluate $(if $(PHOTOGRAPHS),--photographs $(PHOTOGRAPHS))

train-test: $(VENV)/.train
	$(PIP_INSTALL) hypothesis pytest pytest-asyncio pytest-timeout
	$(BIN)/pytest tests/train

train: $(VENV)/.train
	$(BIN)/python -m training.train $(if $(PHOTOGRAPHS),--photographs $(PHOTOGRAPHS)) $(if $(START),--start $(START))

house: $(VENV)/.dev
	$(BIN)/python -m tests.house

documents: $(VENV)/.dev
	$(BIN)/python -m schemas.documents write

LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-header --no-annotate --quiet
lock: $(VENV)/bin/python
	$(PIP_INSTALL) uv
	for profile in demo:server,cpu,embedded dev:server,cpu,embedded,kafka,s3,lakefs,geo,video,rules,mqtt,text,quantize,dev \
	  train:server,cpu,torch,train faust:server,cpu,embedded,kafka,faust,dev; do \
	  $(LOCK) pyproject.toml requirements/build.in \
	    $$(echo $${profile#*:} | sed 's/[^,]*/--extra &/g; s/,/ /g') --output-file requirements/$${profile%%:*}.lock; \
	done
	$(LOCK) pyproject.toml --constraints requirements/dev.lock --output-file requirements/edge.lock
	$(LOCK) requirements/sahi.in --output-file requirements/sahi.lock
	$(LOCK) requirements/client.in --output-file requirements/client.lock

clean:
	rm -rf $(VENV) .venv-sahi .venv-client .venv-faust tests/asyncapi/node_modules tests/consumers/node_modules $(RULES_ENGINE) .standgale .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/results
