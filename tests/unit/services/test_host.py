"""Facts of a host: lists in the kernel's notation, and which limits follow from where the cgroups are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from teul.linux.cgroups import Layout, detect
from teul.services.containers.request.capabilities import DEFAULT_CAPABILITIES
from teul.services.host import gather_host_facts, host_name, parse_kernel_list


@pytest.mark.parametrize(("text", "numbers"), [("", []), ("3", [3]), ("0-2,5", [0, 1, 2, 5]), ("3,1,1-2", [1, 2, 3]), ("03", [3])])
def test_kernel_lists(text: str, numbers: list[int]) -> None:
    assert parse_kernel_list(text) == numbers


@pytest.mark.parametrize("text", ["a", "1-", "-1", "2-1", "1,,2", "1-2-3", "٣", "0-8193"])
def test_wrong_kernel_lists(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid format|out range"):
        parse_kernel_list(text)


def test_on_v2_limits_follow_from_the_controllers(tmp_path: Path) -> None:
    facts = gather_host_facts(Layout({}, (), str(tmp_path), frozenset({"memory", "io"})))
    limits = facts.limits
    assert facts.cgroup_mode == "v2"
    assert (limits.memory, limits.memory_reservation, limits.blkio_throttle, limits.blkio_weight) == (True, True, True, True)
    assert (limits.memory_swappiness, limits.oom_kill_disable, limits.cpu_realtime) == (False, False, False)
    assert (limits.cpu_quota, limits.pids, limits.cpuset) == (False, False, False)


def test_on_v1_limits_follow_from_the_files(tmp_path: Path) -> None:
    for name in ("memory.limit_in_bytes", "memory.oom_control", "cpu.cfs_quota_us"):
        (tmp_path / name).touch()
    (tmp_path / "cpuset.cpus").write_text("0-3\n")
    controllers = {name: str(tmp_path) for name in ("memory", "cpu", "cpuset")}
    facts = gather_host_facts(Layout(controllers, (str(tmp_path),), None, frozenset()))
    limits = facts.limits
    assert facts.cgroup_mode == "v1"
    assert facts.cpuset_cpus == "0-3"
    assert (limits.memory, limits.oom_kill_disable, limits.cpu_quota, limits.cpuset) == (True, True, True, True)
    assert (limits.swap, limits.cpu_shares, limits.pids, limits.blkio_throttle) == (False, False, False, False)


def test_this_host_makes_sense() -> None:
    facts = gather_host_facts(detect())
    assert facts.hostname == os.uname().nodename
    assert os.uname().release.startswith(f"{facts.kernel[0]}.{facts.kernel[1]}")
    assert facts.cpus >= 1
    assert set(facts.capabilities) <= set(facts.known_capabilities)
    assert set(DEFAULT_CAPABILITIES) <= set(facts.known_capabilities)


def test_a_host_s_name_that_is_no_text_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes into records and answers, which are JSON."""
    uname = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((uname.sysname, "b\udcfcro", uname.release, uname.version, uname.machine)))
    assert host_name() == "b\ufffdro"
