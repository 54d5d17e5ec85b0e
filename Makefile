# Two commands for a fresh machine:   make demo   and   make test
# Needs Python 3.10 or newer and make; everything else goes into .venv.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test test-slow chaos fuzz sanitize check bench results clean help

help:
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile

# Set-up is one file that says which set-up is installed, so that it runs again only when something changed.
.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "ticketlab needs Python 3.10 or newer with venv and pip: found none on the PATH"; exit 2; }
	@echo "setting up .venv with $(PYTHON) (about a minute the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: .venv/ready ## two methods on real handwritten digits, 10 seeds; writes runs/demo/report.html
	@$(BIN)/ticketlab check snip 'lr-rewinding,rewind=50%,epochs=50%' --data digits --model conv --sparsity 0.9 \
		--seeds 10 --final --checks corrupted rearrange weight-shuffle --out runs/demo

test: .venv/ready ## lint, types and the test suite
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q -n 2 --cov --cov-report=term:skip-covered $(ARGS)

test-slow: .venv/ready ## the long tests too
	@$(BIN)/python -m pytest -q -n 2 -m '' $(ARGS)

chaos: .venv/ready ## kill, damage, interrupt and fill the disk, 200 rounds (20 minutes; ARGS="--rounds 20 --minutes 5")
	@$(BIN)/python tests/chaos.py $(ARGS)

fuzz: .venv/ready ## 100,000 damaged files for everything that reads files (10 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --inputs 100000 $(ARGS)

# The compiler runs before its sanitizers' libraries are loaded into everything.
SANITIZED := CXX=g++ TICKETLAB_CXXFLAGS="-O1 -fsanitize=address,undefined -fno-sanitize=null,alignment -fno-sanitize-recover=undefined -Wall -Wextra -Werror"
RUNTIMES = $(shell for name in libasan.so libubsan.so libstdc++.so.6; do g++ -print-file-name=$$name; done)

sanitize: .venv/ready ## the native kernels' tests under AddressSanitizer and UBSan (minutes, to compile)
	@$(SANITIZED) $(BIN)/python -c 'from ticketlab.sparse.build import built; built()'
	@$(SANITIZED) LD_PRELOAD="$(RUNTIMES)" ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8 \
		$(BIN)/python -m pytest -q tests/native --ignore tests/native/test_build.py $(ARGS)

bench: .venv/ready ## every benchmark in one table, with the targets (about an hour; leave the machine alone)
	@$(BIN)/python benchmarks/support/table.py

results: .venv/ready ## write results/README.md and the README's table from the records in results/
	@$(BIN)/python results/generate.py

clean: ## remove what was built; studies under runs/ stay
	rm -rf .venv build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
