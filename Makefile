# One verb per need. `make setup` is the only one that installs anything.
BIN := .venv/bin
TESTS ?= tests
PYTEST_ARGS ?=
MINUTES ?= 5
N ?= 10000
SEED ?= 1
JOBS ?= 2
SIMULATE_ARGS ?=
CHAOS_ARGS ?=

.PHONY: setup demo up check test simulate approval-races mutants chaos bench budget-races histories lock clean

setup: ## the environment in .venv, from the lock
	@scripts/setup.sh

demo: setup ## the whole way once: a goal in, reviewed and tested files out
	@$(BIN)/callboard demo

up: setup ## the embedded stack with everything on, until Ctrl-C
	@$(BIN)/callboard up

check: setup ## format, lint, types, import law
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

test: setup ## everything but the benches
	$(BIN)/python -m pytest $(TESTS) --ignore=tests/bench --ignore=tests/chaos $(PYTEST_ARGS)

simulate: setup ## N schedules of the whole system on simulated time, from SEED on, in JOBS processes; N=1 tells its story
	@PYTHONHASHSEED=0 $(BIN)/python -m tests.simulation --seed $(SEED) --count $(N) --jobs $(JOBS) $(SIMULATE_ARGS)

approval-races: setup ## N races of approve, reject, edit, cancel and expire on one call
	@PYTHONHASHSEED=0 $(BIN)/python -m tests.simulation.races $(N)

mutants: setup ## every mutant of the engine is killed by some schedule, of N at most; which one is kept
	@$(BIN)/python -m tests.simulation.mutate all $(or $(SCHEDULES),20000)

chaos: setup ## MINUTES of runs on a NATS cluster and real processes under kills, stops and cuts; CHAOS_ARGS="--seed 7 --tally tests/chaos/tally.jsonl"
	$(BIN)/python -m pytest tests/chaos $(PYTEST_ARGS)
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(CHAOS_ARGS)

histories: setup ## record anew what real workers do, one run at least for every type of fact (about 4 minutes)
	$(BIN)/python -m tests.histories.make

bench: setup ## the costs of DESIGN, measured here
	@if [ -d tests/bench ]; then $(BIN)/python -m pytest tests/bench $(PYTEST_ARGS); else echo "no benches yet"; fi

budget-races: setup ## 64 steps on a budget for ten: N schedules of the deciders (10000), RACES on real workers (20)
	@$(BIN)/python -m tests.unit.actors.budget_race $(or $(N),10000)
	@for race in $$(seq $(or $(RACES),20)); do \
		$(BIN)/python -m pytest tests/integration/test_budget.py -q -k 64_parallel $(PYTEST_ARGS) || exit 1; done
.PHONY: outage fuzz
fuzz: setup ## N mad commands (1,000,000) on the NATS subjects of real processes; each must be answered, and none may die
	$(BIN)/python -m tests.fuzz --count $(or $(N),1000000) $(FUZZ_ARGS)

outage: setup ## outages in their long form: 200 stream clients for ten minutes, Postgres away for one (15 minutes in all)
	$(BIN)/python -m pytest tests/system/test_streams_under_kills.py tests/system/test_postgres_away.py --full -s $(PYTEST_ARGS)

lock: ## rebuild requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

clean: ## what can be made again; your data in .callboard stays
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
