# `make demo` shows it, `make test` proves it; both set the machine up first.
BIN := .venv/bin
ALONE := tests/unit tests/golden tests/crash/test_memory_crashes.py tests/crash/test_judged_kills.py  # they need no Docker, and may run side by side
PROOF := tests/prove  # short, but for `make prove`: docs/proof.md

.PHONY: help setup tests demo test prove check unit real bench clean

help:            ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup:           ## Debian packages, a Docker engine that answers, .venv
	@scripts/setup

tests:           ## and what only tests need
	@scripts/setup tests

demo: setup      ## the whole story on this machine in a minute
	@$(BIN)/proxyctl demo

test: tests      ## lint, types and every test
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest -q -n 3 $(ALONE) $(PROOF)
	@$(BIN)/pytest -q -n 4 --dist loadgroup --max-worker-restart 0 $(addprefix --deselect=,$(ALONE) $(PROOF))

prove: tests     ## what CI has no time for: every system call killed, failing, its power cut; every mutant
	@PROXYCTL_PROVE=full $(BIN)/pytest -q -n auto $(PROOF) tests/e2e/test_two_operators.py

check:           ## lint and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

unit: setup      ## the tests that need no Docker
	@$(BIN)/pytest -q -n auto $(ALONE)

real: tests      ## the tests against real dockerd and nginx
	@$(BIN)/pytest -q -n 4 --dist loadgroup --max-worker-restart 0 $(addprefix --deselect=,$(ALONE) $(PROOF))

bench:           ## the figures of the README, side by side and beside other proxies
	@scripts/setup bench
	@for b in switches hot_commands throughput accuracy deploy_overhead kills scale analysis canaries follower peers; do $(BIN)/python -m bench.$$b || exit 1; done

clean:           ## what the build left
	@rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
