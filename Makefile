# Everything here installs what it needs: Python packages into .venv, Debian packages where root or sudo allows.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Processes that run the tests side by side, twice as many as two cores, as tests wait for others much of the time; 0 runs
# them one after the other, in this one. Which tests stay together, tests/support/parallel.py says
WORKERS ?= 4
BESIDE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=15
# Whoever builds a version builds the same bytes: what is built is as old as its last commit
EPOCH = $(shell git log -1 --format=%ct 2>/dev/null || echo 1767225600)

# Tests start hundreds of Python processes: compiling the same modules for each of them would take longer than they do
unexport PYTHONDONTWRITEBYTECODE

FIRMWARE_PACKAGES := qemu-system-x86 ovmf
BUILD_PACKAGES := clang lld make
LINUX_PACKAGES := xorriso mtools dosfstools
TEST_PACKAGES := $(FIRMWARE_PACKAGES) $(BUILD_PACKAGES) $(LINUX_PACKAGES) qemu-system-arm qemu-efi-aarch64 iproute2 chromium

# $(call need,packages,what is left out without them)
define need
@missing=; \
if command -v dpkg-query >/dev/null; then \
  for package in $(1); do \
    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
  done; \
else \
  echo "not Debian: install the likes of $(1) yourself, else left out: $(2)"; \
fi; \
if [ -n "$$missing" ]; then \
  as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; \
  if $$as_root true 2>/dev/null; then \
    echo "installing$$missing"; \
    $$as_root apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
  else \
    echo "missing (neither root nor sudo):$$missing; left out: $(2)"; \
  fi; \
fi
endef

# Debian's kernel for the Linux example: unpacked in its folder, not installed, and kept there. apt's lists may be so old
# that what they name is gone
define kernel
@fetch="$(MAKE) -s --no-print-directory -C examples/linux packages"; \
[ -e examples/linux/build/unpacked ] || echo "fetching a kernel"; \
if ! $$fetch >/dev/null 2>&1; then \
  as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; \
  { command -v apt-get >/dev/null && $$as_root apt-get update -qq && $$fetch >/dev/null; } || \
  echo "no kernel; left out: the Linux example"; \
fi
endef

.PHONY: help
help:  ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 12

.PHONY: setup
setup: .venv/ready  ## Make .venv with everything for development

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(MAKE) --no-print-directory venv-package
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install -q -e . --group dev
	@touch $@

.PHONY: venv-package
venv-package:
	$(call need,python3-venv,everything)

.PHONY: demo
demo: .venv/ready  ## Boot real firmware under QEMU from our server and see how it ends
	$(call need,$(FIRMWARE_PACKAGES),real firmware; the demo falls back to simulated machines)
	@$(BIN)/python examples/demo.py $(ARGS)

.PHONY: demo-lab
demo-lab: .venv/ready  ## A lab to look at in a browser: ten machines, a fake GitHub, a day of history, live traffic
	$(call need,$(FIRMWARE_PACKAGES),real firmware; all machines are simulated then)
	@$(BIN)/python examples/demo_lab.py $(ARGS)

.PHONY: test
test: .venv/ready  ## All tests
	$(call need,$(TEST_PACKAGES),tests that boot firmware, build programs or drive a browser)
	$(kernel)
	$(BIN)/python -m pytest $(BESIDE) $(ARGS)

# Without machines that are emulated, tests wait more and compute less
.PHONY: quick
quick: WORKERS = 5
quick: .venv/ready  ## The tests that need neither QEMU nor PostgreSQL nor a browser, and a few cases where each takes long
	DISPATCH_QUICK=1 $(BIN)/python -m pytest $(BESIDE) -m "not qemu and not postgresql and not browser" $(ARGS)

.PHONY: coverage
coverage: .venv/ready  ## All tests, with the coverage of src
	$(call need,$(TEST_PACKAGES),tests that boot firmware, build programs or drive a browser)
	$(kernel)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(BESIDE) $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

.PHONY: check
check: .venv/ready  ## Style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Minutes for which each subject is fuzzed
FUZZ ?= 1
# Where tests take a few steps or examples of many: the walks and models that have DISPATCH_TORTURE take all
TORTURED := $(shell grep -lE '^from (scenes|torture) import' tests/*/test_*.py)

.PHONY: torture
torture: .venv/ready fuzz  ## All that takes long: a crash at every commit, long models, the largest input, fuzzing
	DISPATCH_TORTURE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations=15 $(TORTURED) $(ARGS)

.PHONY: soak
soak: .venv/ready  ## A week of a service in fast motion, memory by day, what is left over; make soak DAYS=3 RUNS=3000
	DISPATCH_TORTURE=1 DISPATCH_DAYS=$(DAYS) DISPATCH_RUNS=$(RUNS) $(BIN)/python -u -m pytest -s tests/e2e/test_week.py $(ARGS)

.PHONY: walk
walk: .venv/ready  ## Five minutes of three people at random on the pages of a lab that is killed twice
	$(call need,chromium clang,the walk)
	DISPATCH_TORTURE=1 $(BIN)/python -u -m pytest -s tests/e2e/test_page_walk.py $(ARGS)

.PHONY: fuzz
fuzz: .venv/ready  ## Fuzz for so many minutes each: make fuzz FUZZ=10
	DISPATCH_FUZZ_MINUTES=$(FUZZ) $(BIN)/python -m pytest -s tests/e2e/test_fuzz.py $(ARGS)

.PHONY: lowest
lowest: .venv/ready  ## The fast tests with the oldest dependencies that are allowed, in .venv/lowest
	$(BIN)/python -m pip install -q 'uv>=0.9'
	$(BIN)/uv venv -q --clear --python $(BIN)/python .venv/lowest
	VIRTUAL_ENV=.venv/lowest $(BIN)/uv pip install -q --resolution lowest-direct -e . --group test
	.venv/lowest/bin/python -m pytest -m "not qemu" $(ARGS)

.PHONY: efi
efi:  ## Build the EFI programs anew: power-off, wait, and the example workloads
	$(call need,$(BUILD_PACKAGES),the EFI programs)
	$(MAKE) -C src/pytest_dispatch/firmware/src
	$(MAKE) -C examples/workloads

.PHONY: linux
linux:  ## Build the Linux example workload as .efi, .iso and .img
	$(call need,$(BUILD_PACKAGES) $(LINUX_PACKAGES),the Linux workload)
	$(kernel)
	$(MAKE) -C examples/linux

.PHONY: afternoon
afternoon: .venv/ready  ## Draw the README's pictures of the command line anew
	$(BIN)/python docs/afternoon.py

# Where pictures of all pages go
PICTURES ?= build/pages

.PHONY: pictures
pictures: .venv/ready  ## All pages as pictures, light and dark, at three widths: make pictures PICTURES=build/pages
	$(call need,chromium,all of it)
	$(BIN)/python docs/pages.py $(PICTURES)

.PHONY: docs
docs: .venv/ready  ## Write the generated parts of the documentation anew
	$(BIN)/python docs/generate.py

.PHONY: bench
bench: .venv/ready  ## All benchmarks, into docs/performance.md
	$(call need,$(FIRMWARE_PACKAGES) nginx-light curl chromium,the benchmarks that need them)
	@$(BIN)/python benchmarks/run.py $(ARGS)

# Where `make beacon` puts it
BEACON ?= build/beacon.pyz

.PHONY: beacon
beacon:  ## Make beacon.pyz, by which workloads report, as a single file for Python 3.6 and newer
	$(PYTHON) src/pytest_dispatch/beacon/archive.py $(BEACON)

.PHONY: wheel
wheel: .venv/ready  ## Build the wheel and the source distribution into dist/
	rm -rf dist
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m build --no-isolation

.PHONY: sbom
sbom: wheel  ## What the wheel is installed with, as a CycloneDX file: build/sbom.cdx.json
	$(BIN)/python -m venv --clear .venv/sbom
	.venv/sbom/bin/python -m pip install -q dist/*.whl
	$(BIN)/python -m pip install -q 'cyclonedx-bom>=7'
	mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
	  -o build/sbom.cdx.json .venv/sbom

.PHONY: audit
audit: .venv/ready  ## Known holes in what we depend on, and in the CI workflows
	$(BIN)/python -m venv --clear .venv/audit
	.venv/audit/bin/python -m pip install -q --upgrade pip
	.venv/audit/bin/python -m pip install -q . pip-audit 'zizmor>=1.20' check-jsonschema
	.venv/audit/bin/pip-audit --skip-editable
	.venv/audit/bin/zizmor --offline --persona pedantic .github/workflows
	.venv/audit/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

.PHONY: clean
clean:  ## Remove what was built
	rm -rf .venv build dist reports .pytest_cache .mypy_cache .ruff_cache .coverage* examples/linux/build
