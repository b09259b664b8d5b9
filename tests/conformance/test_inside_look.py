"""A container of Teul looks from the inside like one of Docker's: privileges, mounts, devices, masked paths, environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.inside_differences import KNOWN, unexplained
from conformance.inside_look import CONTAINERS, Look, load_golden, look, look_everywhere
from support import dockerd, images
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]


@pytest.fixture(scope="module")
def dockers_looks() -> dict[str, Look]:
    """From the dockerd of this machine where there is one: mount options and limits are the machine's. Else from the record."""
    if not dockerd.is_installed():
        return load_golden()
    with Dockerd() as running:
        return look_everywhere(running)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as running:
        running.load(images.busybox().docker_archive())
        yield running


@pytest.mark.parametrize("container", [name for name in CONTAINERS if name != "privileged"])
def test_container_looks_like_dockers_from_inside(engine: Engine, dockers_looks: dict[str, Look], container: str) -> None:
    """Every line that the probe prints is the same, or is listed with the reason why not."""
    problems = unexplained(container, dockers_looks[container], look(engine, CONTAINERS[container]))
    assert not problems, "\n" + "\n".join(problems)


def test_privileged_container_has_what_the_engine_has(engine: Engine, dockers_looks: dict[str, Look]) -> None:
    """No filter, no masks, no read-only paths, the host's devices, and every capability that the engine itself has.

    The recorded dockerd cannot start one on a host where it lacks a capability itself, so this is said in words.
    """
    seen = look(engine, CONTAINERS["privileged"])
    bounding = next(line for line in Path(f"/proc/{engine.pid}/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert bounding in seen["capabilities"]
    assert f"CapEff{bounding.removeprefix('CapBnd')}" in seen["capabilities"]
    assert seen["seccomp"] == ["Seccomp:\t0"]
    assert not [line for line in seen["mounts"] if line.startswith("proc /proc/")], "a path below /proc is read-only or masked"
    assert not [line for line in seen["mounts"] if " /sys/firmware " in line or " /proc/keys " in line]
    assert "/proc/sys/kernel/panic opens for writing" in seen["read-only paths"]
    assert "/sys/kernel/mm/ksm/run opens for writing" in seen["read-only paths"]
    assert any(line.endswith(" kmsg") for line in seen["devices"]), "the host's devices are missing"
    assert not [line for line in seen["device access"] if "/tmp/kmsg" in line], "a device of the host cannot be opened"
    assert seen["namespaces"] == [
        line if not line.startswith("cgroup") else "cgroup its own" for line in dockers_looks["default"]["namespaces"]
    ]


def test_root_of_a_read_only_container_is_mounted_so(engine: Engine) -> None:
    """The flag is on the mount itself, where a remount without a capability cannot take it off."""
    root = [line for line in look(engine, CONTAINERS["read-only"])["mounts"] if line.startswith("overlay / ")]
    assert root
    assert root[0].split()[3].split(",")[0] == "ro"


def test_probe_is_never_cut_short(engine: Engine) -> None:
    """The last section is there: a probe that stops early would agree with anything."""
    for name, options in CONTAINERS.items():
        seen = look(engine, options)
        assert seen["exit"] == ["0"], f"{name}: {seen['exit']}"
        assert "what changed nothing outside" in seen


@needs("dockerd")
def test_record_is_what_dockerd_shows_today(dockers_looks: dict[str, Look]) -> None:
    """The record is still what a dockerd shows, where it does not depend on the machine."""
    stable = ("capabilities", "seccomp", "user and groups", "devices", "masked paths", "environment", "descriptors")
    recorded = load_golden()
    changed = [
        f"{name}, {section}: recorded {recorded[name].get(section)}, now {dockers_looks[name].get(section)}"
        for name in CONTAINERS
        for section in stable
        if recorded[name].get(section) != dockers_looks[name].get(section)
    ]
    assert not changed, "\n".join(changed) + "\nrecord again with: cd tests && python -m conformance.record inside_look"


def test_every_known_difference_has_a_reason() -> None:
    """Nothing is excused silently."""
    assert all(entry.reason for entry in KNOWN)
