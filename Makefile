# Two commands for a fresh machine: `make run` starts a node, `make test` passes the tests.
# Settings: PYTHON (which interpreter), VENV (where its environment lies), ARGS (more flags).

PYTHON ?=
VENV ?= .venv
PORT ?= 5010
DIR ?= data
ARGS ?=
BIN = $(VENV)/bin
# mypyc compiles some of these (setup.py names them), and their numbers and those of limits.py in.
COMPILED = pyraft_fast/limits.py $(wildcard pyraft_fast/core/*.py pyraft_fast/consensus/*.py pyraft_fast/storage/*.py)
SOURCES = setup.py pyproject.toml pyraft_fast/version.py $(wildcard ext/*) $(COMPILED)

.PHONY: run test check fix clean bench crash fuzz hunt soak

## Start one node on 127.0.0.1:$(PORT), its files in ./$(DIR); stop it with Ctrl-C.
run: $(VENV)/.ready-run
	@echo "try: redis-cli -p $(PORT) set key value   (Ctrl-C stops the node)"
	@exec $(BIN)/pyraft-fast -i 1 -a 127.0.0.1:$(PORT) --dir $(DIR) $(ARGS)

## Every check and test. Most tests wait for nodes, so files of them run side by side: WORKERS=1 for
## one after another, ARGS="-n 0 --pdb" to look into one.
WORKERS ?= $(shell cores=$$(nproc); echo $$((cores < 7 ? cores + 1 : 8)))
test: check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

## Style and types only; changes nothing.
check: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml pyraft_fast._dice pyraft_fast._digest pyraft_fast._entry pyraft_fast._hub pyraft_fast._pen pyraft_fast._quorum pyraft_fast._ranks pyraft_fast._resp pyraft_fast._ring pyraft_fast._slot pyraft_fast._turn pyraft_fast._wire

fix: $(VENV)/.ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.ready-run: $(SOURCES) tools/prepare.sh
	@tools/prepare.sh run $(VENV) $(PYTHON)
	@touch $@

$(VENV)/.ready-test: $(SOURCES) tools/prepare.sh
	@tools/prepare.sh test $(VENV) $(PYTHON)
	@touch $@ $(VENV)/.ready-run

clean:
	rm -rf build dist *.egg-info $(VENV)
	find pyraft_fast -name '*.so' -delete

## Nodes beside redis-server and other peers found here: make bench ARGS="--full --html report.html"
bench: $(VENV)/.ready-run
	$(BIN)/pyraft-fast bench $(or $(ARGS),--quick)

## Kill -9 rounds, the long form of the test: make crash ROUNDS=200
ROUNDS ?= 200
crash: $(VENV)/.ready-test
	PYRAFT_FAST_CRASH_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest -s tests/process/test_crash_rounds.py $(ARGS)

## Faults of every kind on real nodes for SECONDS: make hunt SECONDS=600 ARGS="--seed 7"
SECONDS ?= 600
hunt: $(VENV)/.ready-test
	$(BIN)/python -m tests.process.hunt --seconds $(SECONDS) $(ARGS)

## Every codec against its slow twin, COUNT random inputs each.
COUNT ?= 1000000
fuzz: $(VENV)/.ready-test
	$(BIN)/python -m tests.fuzz.fuzz_resp --count $(COUNT)
	$(BIN)/python -m tests.fuzz.fuzz_entry --count $(COUNT)
	$(BIN)/python -m tests.fuzz.fuzz_group --count $$(( $(COUNT) / 20 ))
	$(BIN)/python -m tests.fuzz.fuzz_items --count $$(( $(COUNT) / 20 ))
	$(BIN)/python -m tests.fuzz.fuzz_quorum --count $(COUNT)
	$(BIN)/python -m tests.fuzz.fuzz_ranks --count $$(( $(COUNT) / 100 ))
	$(BIN)/python -m tests.fuzz.fuzz_wire --count $(COUNT)
	$(BIN)/python -m tests.fuzz.fuzz_ring --count $$(( $(COUNT) / 75 ))

## SEEDS simulated clusters, faults first, then healing: make soak SEEDS=20000 ARGS="--first 1"
SEEDS ?= 20000
JOBS ?= $(shell nproc)
soak: $(VENV)/.ready-test
	$(BIN)/python -m tests.simulator --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)
