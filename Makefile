# make demo   pretrain, evaluate and report on demo photographs; about five minutes on two cores
# make test   format, lint, types, fast tests, slow tests
#
# Each sets up what it needs in $(VENV) first. To put another build of torch there before all else, give its
# pip arguments: make demo TORCH="torch torchvision --index-url <the index that pytorch.org shows for 'CPU'>"

VENV   ?= .venv
TORCH  ?=
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
BIN    := $(VENV)/bin
# one process a core, a file's tests in one of them
SEVERAL = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test lint types fast slow end-to-end clean help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,2p'
	@echo "make lint, types, fast, slow, end-to-end   the parts of the tests;  make clean   remove $(VENV) and caches"

demo: $(VENV)/ready-demo
	$(BIN)/nolabel demo

test: lint types fast slow
	@echo "make test: all passed (format, lint, types, fast and slow tests)."

lint: $(VENV)/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/ready-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

fast: $(VENV)/ready-dev
	$(SEVERAL) -m "not slow and not end_to_end"

slow: $(VENV)/ready-dev
	$(SEVERAL) -m "slow and not end_to_end"

end-to-end: $(VENV)/ready-dev
	$(BIN)/python -m pytest -m end_to_end

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/ready-%: pyproject.toml
	@VENV="$(VENV)" PYTHON="$(PYTHON)" TORCH="$(TORCH)" sh tools/setup.sh $*
	@touch $@
