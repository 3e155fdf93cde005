# make run        try bootfw: its own environment, no configuration, no root
# make test       everything that is checked, with what the checks need
# make fuzz       looks for inputs that break a parser or the service; ARGS="tftp service --seconds 600" and more: ARGS=-h
# make firmware   every firmware boots, on a clean link and on bad ones; ARGS="--server both --loss 0 2" and more: ARGS=-h
#
# make docs       the documentation as a site, with search, in docs/site
# make sbom       the list of all components of an installation, as CycloneDX, in dist/sbom.json
#
# The rest are parts of these, for work on one thing.

VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test docs sbom release fuzz firmware install-clients lint types imports pytest test-all test-portable test-distribution

run: $(VENV)/installed
	exec $(BIN)/twistd --nodaemon --pidfile= bootfw

# The checks run beside each other, once there is what they need. Their output mixes, so that progress shows.
test: install-clients $(VENV)/installed-test
	$(MAKE) --no-print-directory --jobs lint types imports pytest

# First the tests that `make test` leaves out; the matrix has those of test_firmware and test_loss.
firmware: install-clients $(VENV)/installed-test
ifeq ($(strip $(ARGS)),)
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m firmware --ignore-glob="*/test_firmware.py" --ignore-glob="*/test_loss.py"
endif
	PYTHONPATH=tests $(BIN)/python -m interop.matrix $(ARGS)

fuzz: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

# Strict: a link without a target, or a page that no list has, is an error.
docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -d build/doctrees . docs/site

release: $(VENV)/installed-test
	tools/release $(BIN)/python
	$(MAKE) --no-print-directory sbom

# Of an environment of its own, with what an operator installs and nothing else. What pip notes down about the origin of
# bootfw, the path of this checkout, does not belong into it.
sbom: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[release]'
	rm -rf build/sbom && $(BIN)/python -m venv --without-pip build/sbom
	$(BIN)/python -m pip --quiet --python build/sbom install '.[tls,iso,zstd,yaml,rich,metrics,otel]'
	rm build/sbom/lib/python3.*/site-packages/bootfw-*.dist-info/direct_url.json
	mkdir -p dist && $(BIN)/cyclonedx-py environment --output-reproducible -o dist/sbom.json build/sbom

install-clients:
	tools/install-clients

lint: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# The programs with a configuration of mypy of their own have one cache for what they import, with the same options.
types: $(VENV)/installed-test
	$(BIN)/mypy
	cd plugins/bootfw-txtftp && ../../$(BIN)/mypy --cache-dir ../../.mypy_cache/plugins
	cd plugins/bootfw-fbtftp && ../../$(BIN)/mypy --cache-dir ../../.mypy_cache/plugins
	rm -rf build/new && for kind in backend observer resolver watchdog; do \
	    $(BIN)/bootfw plugin new "new-$$kind" --kind $$kind --directory build/new/$$kind >/dev/null && \
	    (cd build/new/$$kind && ../../../$(BIN)/mypy --cache-dir ../../../.mypy_cache/plugins \
	        --untyped-calls-exclude twisted) || exit; \
	done

imports: $(VENV)/installed-test
	$(BIN)/lint-imports

# Tests of real clients wait for most of their time. Machines under emulation are counted apart: tests/interop/slots.py.
JOBS ?= $$((3 * $$(nproc)))

# Some containers set it. Then each process of pytest compiles all test modules, which takes 9 s more, and each server that
# a test starts compiles bootfw, 0.3 s more.
unexport PYTHONDONTWRITEBYTECODE

pytest: $(VENV)/installed-test
	$(BIN)/pytest -n $(JOBS) --dist worksteal

# The tests that need no real client, on each supported version of Python that is found; test-3.13 is one of them.
VERSIONS := 3.11 3.12 3.13 3.14

test-all: $(VERSIONS:%=test-%) test-distribution

test-3.%:
	@if python=$$(tools/find-python 3.$*); then \
	    $(MAKE) --no-print-directory PYTHON=$$python VENV=.venv-3.$* .venv-3.$*/installed-test && \
	    .venv-3.$*/bin/pytest -m "not interop and not firmware" -n $(JOBS) --dist worksteal; \
	else echo "The tests are not run on Python 3.$*."; fi

# The same without the tuned paths, which other systems lack: tests/portable.py.
test-portable: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/pytest -p portable -m "not interop and not firmware" -n $(JOBS) --dist worksteal

# The same with the packages of the distribution: those of Debian 12 are the oldest that setup.cfg allows. What the tests
# themselves need is newer. Tests of what the distribution does not have are left out.
DISTRIBUTION := .venv-distribution
WITHOUT := observe/test_otel.py observe/test_monitoring_howto.py stores/test_book_in_stores.py web/test_v1.py test_packaging.py

test-distribution:
	@if /usr/bin/python3 -c 'import attr, jinja2, shtab, twisted, zope.interface' 2>/dev/null; then \
	    tools/create-venv $(DISTRIBUTION) /usr/bin/python3 --system-site-packages && \
	    $(DISTRIBUTION)/bin/python -m pip install --quiet hypothesis pytest pytest-xdist && \
	    $(DISTRIBUTION)/bin/python -m pip install --quiet --no-deps --editable . && \
	    sed "1s|.*|#!$(CURDIR)/$(DISTRIBUTION)/bin/python|" /usr/bin/twistd3 >$(DISTRIBUTION)/bin/twistd && \
	    chmod +x $(DISTRIBUTION)/bin/twistd && \
	    $(DISTRIBUTION)/bin/pytest tests -m "not interop and not firmware" -n $(JOBS) --dist worksteal \
	        $(WITHOUT:%=--ignore=tests/%); \
	else echo "The tests are not run with the packages of the distribution: apt install" \
	    "python3-twisted python3-jinja2 python3-shtab python3-pycdlib python3-prometheus-client python3-rich" \
	    "python3-scapy python3-yaml python3-zstandard"; fi

$(BIN)/python:
	python=$$(tools/find-python) && tools/create-venv $(VENV) "$$python"

# Made again when what is installed, or where from, may have changed.
$(VENV)/installed: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/installed
