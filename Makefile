# Two commands set everything up: `make demo` and `make test`. Both create and reuse .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXT_SOURCES := $(wildcard ext/*.pyx ext/*.pxd)
PROTO_SOURCES := $(wildcard proto/*/*.proto proto/*/*/*.proto)
BUILT := $(VENV)/.built
# Tests that share the processor with others; what has to have it for itself is in tests/e2e.
PARALLEL := -n 2 --dist loadfile
# Other programs use the machine too, and some tests measure time: what failed runs once more, alone. Twice is a failure.
AGAIN := --last-failed --last-failed-no-failures none

# Where `make install` puts things; DESTDIR stands before it while a package is built.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
LIB := $(PREFIX)/lib/telemetryd
SYSTEMD := $(PREFIX)/lib/systemd/system

.PHONY: demo test build lint unit bench fuzz long clean check-tools figures install uninstall

demo: build
	$(BIN)/telemetryd demo

test: build lint
	$(BIN)/pytest tests --ignore=tests/e2e $(PARALLEL) -m "not long" || \
		$(BIN)/pytest tests --ignore=tests/e2e -m "not long" $(AGAIN)
	$(BIN)/pytest tests/e2e -m "not long" || $(BIN)/pytest tests/e2e -m "not long" $(AGAIN)
	TELEMETRYD_NO_EXT=1 $(BIN)/pytest tests/unit tests/contract $(PARALLEL) -m "not long and not no_twins"

build: $(BUILT)

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint ext
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: build
	$(BIN)/python -m benchmarks.run --write

fuzz: build
	$(BIN)/python tests/fuzz/run.py --seconds $(or $(SECONDS_EACH),60)

long: build
	$(BIN)/pytest tests -m long -p no:randomly --timeout=7200

# An environment of its own under $(LIB), the command, the units; a configuration only where there is none yet.
# Files name $(PREFIX), whatever DESTDIR is.
install: check-tools
	rm -rf "$(DESTDIR)$(LIB)"
	$(PYTHON) -m venv "$(DESTDIR)$(LIB)"
	"$(DESTDIR)$(LIB)/bin/python" -m pip install --quiet --disable-pip-version-check ".[top,reports]"
	if test -n "$(DESTDIR)"; then grep -rlIF "$(DESTDIR)$(LIB)" "$(DESTDIR)$(LIB)/bin" "$(DESTDIR)$(LIB)/pyvenv.cfg" | \
		xargs sed -i "s|$(DESTDIR)$(LIB)|$(LIB)|g"; fi
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/doc/telemetryd" "$(DESTDIR)$(SYSCONFDIR)/telemetryd"
	ln -sfn "$(LIB)/bin/telemetryd" "$(DESTDIR)$(PREFIX)/bin/telemetryd"
	install -m 644 docs/*.md "$(DESTDIR)$(PREFIX)/share/doc/telemetryd"
	install -D -m 644 systemd/telemetryd.service "$(DESTDIR)$(SYSTEMD)/telemetryd.service"
	install -D -m 644 systemd/telemetryd-sflow.socket "$(DESTDIR)$(SYSTEMD)/telemetryd-sflow.socket"
	install -D -m 644 systemd/telemetryd-agent.service "$(DESTDIR)$(SYSTEMD)/telemetryd-agent.service"
	install -D -m 644 systemd/telemetryd.sysusers "$(DESTDIR)$(PREFIX)/lib/sysusers.d/telemetryd.conf"
	install -D -m 644 systemd/telemetryd.tmpfiles "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/telemetryd.conf"
	install -D -m 644 systemd/telemetryd.sysctl "$(DESTDIR)$(PREFIX)/lib/sysctl.d/60-telemetryd.conf"
	sed -i -e "s|/usr/local|$(PREFIX)|g" -e "s|/etc/telemetryd|$(SYSCONFDIR)/telemetryd|g" \
		"$(DESTDIR)$(SYSTEMD)/telemetryd.service" "$(DESTDIR)$(SYSTEMD)/telemetryd-agent.service"
	test -e "$(DESTDIR)$(SYSCONFDIR)/telemetryd/telemetryd.yaml" || \
		sed "s|/usr/local|$(PREFIX)|g" systemd/telemetryd.yaml > "$(DESTDIR)$(SYSCONFDIR)/telemetryd/telemetryd.yaml"
	@echo "installed; next, as root:"
	@echo "  systemd-sysusers && systemd-tmpfiles --create && sysctl --system && systemctl daemon-reload"
	@echo "  telemetryd doctor && systemctl enable --now telemetryd-sflow.socket telemetryd.service"

# The configuration and what is stored stay.
uninstall:
	rm -rf "$(DESTDIR)$(LIB)" "$(DESTDIR)$(PREFIX)/share/doc/telemetryd"
	rm -f "$(DESTDIR)$(PREFIX)/bin/telemetryd" "$(DESTDIR)$(SYSTEMD)/telemetryd.service" \
		"$(DESTDIR)$(SYSTEMD)/telemetryd-sflow.socket" "$(DESTDIR)$(SYSTEMD)/telemetryd-agent.service" \
		"$(DESTDIR)$(PREFIX)/lib/sysusers.d/telemetryd.conf" \
		"$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/telemetryd.conf" "$(DESTDIR)$(PREFIX)/lib/sysctl.d/60-telemetryd.conf"

clean:
	rm -rf build dist *.egg-info telemetryd/_ext/*.so

# What is missing is named with the command that installs it, before anything else fails obscurely.
check-tools:
	@command -v $(PYTHON) >/dev/null || { echo "python3 (3.11 or newer) is missing: apt-get install python3 python3-venv python3-dev" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V): set PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' || { echo "Python's headers are missing: apt-get install python3-dev" >&2; exit 2; }
	@command -v $${CC:-cc} >/dev/null || { echo "a C compiler is missing: apt-get install gcc libc6-dev" >&2; exit 2; }

$(BUILT): pyproject.toml setup.py $(EXT_SOURCES) $(PROTO_SOURCES) | check-tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "setuptools>=77" "Cython>=3.1,<4" "grpcio-tools==1.85.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[test]"
	touch $@
