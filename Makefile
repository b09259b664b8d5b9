# One command each. `make demo` shows what Teul does; `make test` decides.
#
#   make check        format, lint, types, layers, unit tests (no root)
#   make contract     fakes and the real things, held to the same (root; without it only fakes)
#   make kernel       the kernel tier, on this host (root)
#   make kernel-uml   the part of it that depends on cgroups, under cgroup v2 alone, in User-mode Linux
#   make e2e          a real engine on this host (root)
#   make faults       an engine that is killed, fills up and loses its callers at named points (root)
#   make conformance  the docker command line and docker-py, beside a real dockerd (root)
#   make test         all of these, and nothing left behind
#   make endurance    the storm, the deaths and the fuzz at length: an hour (root)
#   make test-vm      the kernel tier under QEMU, with networking and nftables
#   make bench        beside dockerd, in turn: medians and ratios

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PLAIN_STAMP := $(VENV)/.installed-plain
PYTEST := $(BIN)/python -m pytest
# Two processes: most tests wait for another process half of the time. A file's tests stay together, they share an engine.
PYTEST_BESIDE := $(PYTEST) -q -n 2 --dist loadfile --no-loadscope-reorder

# What Teul itself loads or the demo packs; what the tests run beside it; what `make test-vm` boots.
RUN_PACKAGES  := libseccomp2 libnftables1
DEMO_PACKAGES := $(RUN_PACKAGES) coreutils hostname mount procps
TEST_PACKAGES := $(DEMO_PACKAGES) btrfs-progs busybox-static crun docker-registry docker.io iproute2 iptables nftables openssl runc skopeo uidmap user-mode-linux util-linux
VM_PACKAGES   := $(TEST_PACKAGES) kmod qemu-system-x86

.PHONY: help venv demo check format contract kernel kernel-uml e2e faults conformance test endurance test-vm bench clean demo-packages system-packages vm-packages
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   make/make/p' Makefile

venv: $(STAMP)

# Debian keeps `venv` in a package of its own. What is given to `make-venv` is what pip installs.
define make-venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Teul needs CPython 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V)" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tools/install-packages python3-venv
@$(PYTHON) -m venv $(VENV)
@$(BIN)/pip install --quiet --disable-pip-version-check --editable '$(1)'
@touch $@
endef

$(STAMP): pyproject.toml
	$(call make-venv,.[dev])

# Without the tools of development; an environment that has them will do as well.
$(PLAIN_STAMP): pyproject.toml
	$(call make-venv,.)

demo-packages:
	@tools/install-packages $(DEMO_PACKAGES)

system-packages:
	@tools/install-packages $(TEST_PACKAGES)

vm-packages:
	@tools/install-packages $(VM_PACKAGES)

demo: demo-packages $(if $(wildcard $(STAMP)),$(STAMP),$(PLAIN_STAMP))
	@$(BIN)/python tools/demo.py

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST_BESIDE) tests/unit

contract: venv
	$(PYTEST_BESIDE) tests/contract

kernel: venv
	$(PYTEST_BESIDE) tests/kernel

# What depends on the version of cgroups or of the kernel; a system call costs 67 times as much in there.
UML_TESTS := $(addprefix tests/kernel/,linux/test_caps.py linux/test_process.py linux/cgroups linux/test_seccomp.py runtime/test_limits.py)

kernel-uml: venv
	$(BIN)/python tests/vm/uml.py --if-installed -- $(BIN)/python -m pytest -q $(UML_TESTS)

e2e: venv
	$(PYTEST_BESIDE) tests/e2e

faults: venv
	$(PYTEST_BESIDE) tests/faults

conformance: venv
	$(PYTEST_BESIDE) tests/conformance

endurance: system-packages venv
	TEUL_STORM_SECONDS=600 TEUL_ENDURANCE_SECONDS=1800 $(PYTEST) -q -s tests/e2e/test_storm.py tests/e2e/test_endurance.py
	TEUL_CYCLES=200 $(PYTEST) -q tests/e2e/test_network_cycles.py
	TEUL_ATTACK_ROUNDS=1000 $(PYTEST) -q tests/e2e/test_swapped_paths.py
	TEUL_FUZZ_SECONDS=600 $(PYTEST) -q -s tests/conformance/openapi/test_fuzz.py
	TEUL_PLAY_RECORD=1 $(PYTEST) -q tests/conformance/test_docker_cli.py
	TEUL_ALL_RUNTIMES=1 $(PYTEST) -q tests/e2e/test_runtimes.py
	TEUL_FUZZ_SECONDS=200 $(PYTEST) -q -s tests/kernel/workers/test_index_fuzz.py

BEFORE := .cache/host-before.json

test: system-packages venv
	@mkdir -p $(dir $(BEFORE))
	@$(BIN)/python tools/leaks.py save $(BEFORE)
	$(MAKE) --no-print-directory -j2 --output-sync=target check kernel-uml
	$(MAKE) --no-print-directory contract
	$(MAKE) --no-print-directory kernel
	$(MAKE) --no-print-directory e2e
	$(MAKE) --no-print-directory faults
	$(MAKE) --no-print-directory conformance
	@$(BIN)/python tools/leaks.py compare $(BEFORE)

test-vm: vm-packages venv
	$(BIN)/python tests/vm/qemu.py --deadline 2700 -- $(PYTEST_BESIDE) tests/kernel

bench: system-packages venv
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests bench tools -name __pycache__ -o -name '*.egg-info' | xargs rm -rf
