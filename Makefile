# Everything goes through .venv and deploy/local_services.py; `make` alone lists what there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# BROKER=4.0 or 4.3: another Debian's RabbitMQ instead of the machine's, for all targets that need one.
SERVICES := $(BIN)/python deploy/local_services.py$(if $(BROKER), --rabbitmq $(BROKER))
MAKEFLAGS += --no-print-directory
# Where all tests run: coverage, only of the modules that read what a sender declares, and three processes, each with a third
# of the tests at first, so that a module is begun in one of them; most tests wait most of the time.
ALL_TESTS := -n 3 --dist worksteal --cov=worker.signatures --cov=worker.programs --cov=worker.blueprints --cov-fail-under=98

.DEFAULT_GOAL := help
.PHONY: help setup demo worker test test-elixir check format bench fuzz chaos recording rehearse lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

setup: .venv/.ready ## make .venv with the dspex-worker command in it
	@$(if $(filter setup,$(MAKECMDGOALS)),echo "  ready: $(BIN)/dspex-worker",:)

.venv/.ready: pyproject.toml requirements-dev.lock deploy/installer.lock worker/__init__.py
	@$(PYTHON) deploy/make_venv.py
	@touch $@

demo: setup ## see 200 jobs go through a real RabbitMQ to two workers and come back
	@$(SERVICES) -- $(BIN)/dspex-worker demo

worker: setup ## start a private RabbitMQ and a worker, and print what to type in a second terminal; Ctrl-C ends both
	@env --unset=DSPEX_AMQP_URL $(SERVICES) -- sh -c 'echo "export DSPEX_AMQP_URL=$$DSPEX_AMQP_URL"; exec $(BIN)/dspex-worker serve'

test: setup ## run all tests against a real RabbitMQ, SQLite and PostgreSQL (ARGS="-k name", BROKER=4.3)
	@$(SERVICES) --postgres $(if $(ARGS),,--trixie) --tool docker-compose --tool npm --tool openssl --tool elixir -- $(BIN)/python -m pytest $(or $(ARGS),$(ALL_TESTS))

test-elixir: setup ## run the tests of the Elixir client alone, with two workers (ARGS="test/integration --trace")
	@$(SERVICES) --tool elixir -- $(BIN)/python -m tests.elixir $(ARGS)

check: setup ## check format, lint, types and the import contract
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy --python-version 3.12 worker
	@$(BIN)/lint-imports

format: setup ## bring the code into the format that `make check` asks for
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## measure the figures of docs/PERFORMANCE.md
	@$(SERVICES) --tool elixir -- $(BIN)/python -m benchmarks $(ARGS)

fuzz: setup ## send 100,000 bodies that no sender would write (ARGS="--seed 7 --bodies 5000")
	@$(BIN)/python -m tests.fuzz $(ARGS)

chaos: setup ## kill workers and brokers for an hour and write what is left to docs/RELIABILITY.md (ARGS="--only drain")
	@$(BIN)/python -m tests.faults --long --write $(ARGS)

recording: setup ## draw docs/demo.svg, the README's picture of a demo run
	@$(SERVICES) --tool elixir -- $(BIN)/python -m tests.recording

rehearse: ## set up a clone in an empty folder, run its demo, and see that nothing is left behind
	@deploy/rehearse.sh

lock: setup ## write the lock files anew (ARGS=--upgrade for newer versions)
	@deploy/lock.sh $(ARGS)

clean: ## remove .venv, .debian, caches and builds
	@rm -rf clients/*/_build .venv .debian .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
