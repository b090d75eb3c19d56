# Everything runs inside .venv, which `make setup` makes from the locked requirements. Nothing else is needed than
# Python 3.11+, make and git (and, for the browser tests, a Chromium, which is looked for and installed if missing).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WEB := $(shell git ls-files web 2>/dev/null)

.PHONY: setup run test conformance check format bench chaos lock chromium postgresql nginx clean

setup: $(STAMP)

$(STAMP): requirements/dev.lock pyproject.toml hatch_build.py $(WEB)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

run: setup  ## Valkey, bridge and example mind; Ctrl-C ends everything
	$(BIN)/broadcast up

chromium: setup
	$(BIN)/python scripts/ensure_chromium.py

postgresql: setup
	$(BIN)/python scripts/ensure_postgresql.py

nginx: setup
	$(BIN)/python scripts/ensure_nginx.py

test: setup chromium postgresql nginx  ## everything that must hold, on real parts
	$(BIN)/pytest -m "not chaos and not alone" -n 3 --dist loadfile; others=$$?; \
		$(BIN)/pytest -m "alone and not chaos" && exit $$others

chaos: setup  ## slow, seeded fault schedules
	$(BIN)/pytest -m chaos

conformance: setup  ## both official protocol suites: make conformance SUITES=folder of github.com/socketio/socket.io
	$(BIN)/python scripts/run_conformance.py "$(SUITES)"

check: setup  ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## figures as ratios, with machine and versions
	$(BIN)/python -m benchmarks

lock: setup  ## write the locks anew after pyproject.toml has changed
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--all-extras --group test --group check --group bench --group build pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--extra bridge --extra archive --extra cli pyproject.toml -o requirements/server.lock

clean:
	rm -rf $(VENV) dist build test-artifacts web/node_modules src/broadcast/bridge/static
