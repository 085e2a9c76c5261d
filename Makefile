# Everything a newcomer needs. `make help` lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK ?= requirements/cpu.lock
CODE := retail_assistant retail_assistant_tests benchmarks deploy
PORT ?= 3000
MLFLOW_PORT ?= 5000
SERVE_PORT ?= 8000
SIZE ?= quickstart
# Each may hold a model, a Ray and a Dagster: more need more memory, not only more cores.
TEST_WORKERS ?= 2
WORKERS := -n $(TEST_WORKERS) --dist loadscope --no-loadscope-reorder
CHECKOV := 3.3.30
DETECT_SECRETS := 1.5.0
PIP_AUDIT := 2.10.1

export DAGSTER_DISABLE_TELEMETRY := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help setup run ui chat serve report rehearse test check tests faults format lock audit images manifests policy clean

help:  ## This list.
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 10

setup:  ## Create .venv and install the locked packages into it (again only when the lock changes).
	@$(PYTHON) deploy/local/setup_environment.py --venv $(VENV) --lock $(LOCK)

run: setup  ## The main job: catalog to compared and promoted model.
	@$(BIN)/retail-assistant run

ui: setup  ## Dagster and MLflow on 127.0.0.1 (PORT=, MLFLOW_PORT=); Ctrl-C ends them.
	@$(BIN)/retail-assistant ui --port $(PORT) --mlflow-port $(MLFLOW_PORT)

chat: setup  ## Talk with the champion in the terminal.
	@$(BIN)/retail-assistant chat

serve: setup  ## The champion for shoppers: a chat page and an API on 127.0.0.1 (SERVE_PORT=); Ctrl-C ends it.
	@$(BIN)/retail-assistant serve --port $(SERVE_PORT)

report: setup  ## The latest comparison, in the terminal.
	@$(BIN)/retail-assistant report

rehearse: setup  ## All that a cluster runs, on this machine, for a day of a shop (SIZE=quickstart or tiny).
	@$(BIN)/python -m retail_assistant_tests.rehearsal --size $(SIZE)

test: setup check tests  ## Lint, types and tests, the slow ones too.

check: setup  ## Lint, format, types, bandit.
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml retail_assistant benchmarks deploy

audit: setup  ## Secrets in files; known vulnerabilities of every locked package, asked over the network.
	@git ls-files -z | xargs -0 $(BIN)/uvx --from detect-secrets==$(DETECT_SECRETS) detect-secrets-hook --no-verify --baseline .secrets.baseline
	@$(BIN)/uvx --from pip-audit==$(PIP_AUDIT) pip-audit --strict --disable-pip --requirement $(LOCK)

tests: setup
	@sh deploy/local/install_browser.sh
	$(BIN)/python -m pytest -m "not long_fault" $(WORKERS)

faults: setup  ## All that goes wrong on purpose, the long ones too; writes the table of docs/reliability.md.
	@sh deploy/local/install_browser.sh
	$(BIN)/python -m pytest -m fault --faults-table docs/reliability.md $(WORKERS)

format: setup  ## Format and fix what can be fixed.
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

lock: setup  ## Resolve requirements/*.in again into the lock files.
	@sh requirements/lock.sh $(BIN)/uv

images:  ## Build and push the container images, tagged with the commit (REGISTRY=).
	@sh deploy/images/build.sh $(REGISTRY)

manifests: setup  ## Render deploy/kubernetes into build/manifests and check every object (CRDS= for a cluster's own definitions).
	@$(BIN)/python deploy/kubernetes/manifests.py --output build/manifests $(if $(CRDS),--crds $(CRDS))

policy: manifests  ## Checkov over what was rendered; it has an environment of its own.
	@$(BIN)/uvx --from checkov==$(CHECKOV) checkov --config-file deploy/kubernetes/checkov.yaml --directory build/manifests

clean:  ## Remove what run, ui and test made (the environment too).
	rm -rf $(VENV) var build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
