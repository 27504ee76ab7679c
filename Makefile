# make demo       recover a network trained on handwritten digits, from installation to figures
# make test       the tests, slow ones left out, with line coverage (some 6 minutes on 2 quiet cores, install included)
# make test-all   every test, those of optional libraries and of the site too, which it installs
# make lint       formatting, ruff and pyright
# make docs       the documentation as a site that needs no network, in site/
# make bench      what each step costs, as a table and as JSON
#
# Each target makes .venv when it is missing and installs again when pyproject.toml has changed. Any Python 3.11, 3.12
# or 3.13 on the path will do; make PYTHON=/path/to/python takes that one.

BIN := .venv/bin
WORKERS ?= 2

.PHONY: demo test test-all lint docs bench clean

demo: .venv/ready-ecjax
	$(BIN)/ecjax recover digits

test: .venv/ready-test
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow" --durations=40 --cov=ecjax --cov-report=term:skip-covered --cov-fail-under=95

test-all: .venv/ready-all
	$(BIN)/pytest -n $(WORKERS)

lint: .venv/ready-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: .venv/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: .venv/ready-ecjax
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .jax_cache .pytest_cache .ruff_cache .hypothesis .coverage site

# A stamp is written last, so an installation that was interrupted is made again.
.venv/ready-ecjax: .venv/ready-python pyproject.toml
	$(BIN)/pip install --quiet --editable .
	@touch $@

# With the libraries that networks and tables are taken from and given to, a browser's driver for the report, what builds the site.
.venv/ready-all: .venv/ready-test
	$(BIN)/pip install --quiet --editable ".[doors,report]" --group browser --group docs
	@touch $@

.venv/ready-%: .venv/ready-ecjax
	$(BIN)/pip install --quiet --group $*
	@touch $@

# Version managers put names like python3.13 on the path for Pythons that do not start, so every candidate is asked.
.venv/ready-python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then found=$$python; break; fi; \
	  if [ "$$python" = "$(PYTHON)" ]; then echo "PYTHON=$$python is no Python 3.11 to 3.13 with venv." >&2; exit 1; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "ecjax needs Python 3.11, 3.12 or 3.13 with its venv module, and found none on the path." >&2; \
	  echo "Install one (Debian, Ubuntu: apt install python3-venv), or name it: make PYTHON=/path/to/python" >&2; \
	  exit 1; \
	fi; \
	echo "Making .venv with $$("$$found" --version) ..."; \
	"$$found" -m venv --clear .venv
	@$(BIN)/pip install --quiet --upgrade "pip>=25.1"  # the first that knows --group
	@touch $@
