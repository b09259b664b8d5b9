"""What a cgroup says that it uses, and limits that are changed as a whole or not at all: on every layout that the host has."""

from __future__ import annotations

import errno
import mmap
import os
import time
from typing import Any

import pytest

from kernel.linux.cgroups.test_cgroups import MEGABYTE, Inside, cgroup, eventually, layout, require, sleep_forever, value
from support.needs import needs
from teul.linux import cgroups
from teul.linux.cgroups import Layout
from teul.linux.cgroups.usage import read_system_cpu, read_usage
from teul.linux.netdev import read_interfaces

__all__ = ["layout"]

pytestmark = needs("root")


def test_a_new_cgroup_has_used_nothing(layout: Layout) -> None:
    with cgroup(layout) as plan:
        usage = read_usage(layout, plan["path"])
        assert (usage["cpu"] or {"total_ns": 0})["total_ns"] == 0
        if usage["pids"] is not None:
            assert (usage["pids"]["current"], usage["pids"]["limit"]) == (0, None)
        if usage["memory"] is not None:
            assert usage["memory"]["limit_bytes"] is None
            assert usage["memory"]["failures"] == 0


def test_a_cgroup_that_is_gone_is_missed(layout: Layout) -> None:
    with cgroup(layout) as plan:
        path = plan["path"]
    with pytest.raises(FileNotFoundError):
        read_usage(layout, path)


def test_processor_time_is_counted(layout: Layout) -> None:
    require(layout, "cpuacct", "cpu")

    def spin() -> int:
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        return 0

    system_before, online = read_system_cpu()
    with cgroup(layout) as plan:
        assert Inside(plan, spin).wait() == 0
        cpu = read_usage(layout, plan["path"])["cpu"]
        assert cpu is not None
        assert 150_000_000 < cpu["total_ns"] < 5_000_000_000
        assert cpu["user_ns"] + cpu["system_ns"] > 0
        assert (cpu["percpu_ns"] is not None) == ("cpuacct" in layout.v1)
        if cpu["percpu_ns"] is not None:
            assert sum(cpu["percpu_ns"]) == cpu["total_ns"]
    system_after, _ = read_system_cpu()
    assert system_after > system_before
    assert 1 <= online <= (os.cpu_count() or 1)


def test_throttling_is_counted(layout: Layout) -> None:
    require(layout, "cpu")

    def spin() -> int:
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            pass
        return 0

    with cgroup(layout, {"cpu": {"quota": 5_000, "period": 50_000}}) as plan:
        assert Inside(plan, spin).wait() == 0
        cpu = read_usage(layout, plan["path"])["cpu"]
        if "cpu" in layout.v1 and "cpuacct" not in layout.v1:
            pytest.skip("time is not counted in this layout")
        assert cpu is not None
        assert cpu["periods"] > 0
        assert cpu["throttled_periods"] > 0
        assert cpu["throttled_ns"] > 0


def test_memory_and_processes_are_counted(layout: Layout) -> None:
    require(layout, "memory")
    require(layout, "pids")
    held = mmap.mmap(-1, mmap.PAGESIZE)

    def hold() -> int:
        block = bytearray(os.urandom(1)) * (16 * MEGABYTE)
        held[0] = len(block) and 1
        return sleep_forever()

    with cgroup(layout, {"memory": {"limit": 64 * MEGABYTE}, "pids": {"limit": 7}}) as plan:
        Inside(plan, hold)
        eventually(lambda: held[0] == 1)
        usage = read_usage(layout, plan["path"])
        assert usage["memory"] is not None
        assert 15 * MEGABYTE < usage["memory"]["usage_bytes"] < 64 * MEGABYTE
        assert usage["memory"]["limit_bytes"] == 64 * MEGABYTE
        assert usage["memory"]["version"] == (1 if "memory" in layout.v1 else 2)
        assert usage["memory"]["stats"]["total_rss" if "memory" in layout.v1 else "anon"] > 15 * MEGABYTE
        assert usage["pids"] is not None
        assert (usage["pids"]["current"], usage["pids"]["limit"]) == (1, 7)


def test_block_io_is_counted_or_said_to_be_nothing(layout: Layout) -> None:
    require(layout, "blkio", "io")
    with cgroup(layout) as plan:
        usage = read_usage(layout, plan["path"])["io"]
        assert usage is not None
        assert usage["io_bytes"] == []
        assert (usage["operations"] is not None) == ("blkio" in layout.v1)


def test_reading_takes_little_time(layout: Layout) -> None:
    if "TEUL_IN_VM" in os.environ:
        pytest.skip("system calls cost many times as much in a virtual machine")
    with cgroup(layout) as plan:
        durations = []
        for _ in range(20):
            begin = time.perf_counter()
            read_usage(layout, plan["path"])
            durations.append(time.perf_counter() - begin)
        assert min(durations) < 0.003


def test_the_callers_own_network_is_nobodys(layout: Layout) -> None:
    assert read_interfaces(os.getpid()) is None


def limits(plan: cgroups.Plan, layout: Layout) -> list[str]:
    return [
        value(plan, layout, "memory", "memory.limit_in_bytes", "memory.max"),
        value(plan, layout, "memory", "memory.soft_limit_in_bytes", "memory.low"),
        value(plan, layout, "pids", "pids.max", "pids.max"),
        value(plan, layout, "cpu", "cpu.shares", "cpu.weight"),
    ]


def test_all_limits_are_changed_together(layout: Layout) -> None:
    for controller in ("memory", "pids", "cpu"):
        require(layout, controller)
    with cgroup(layout, {"memory": {"limit": 64 * MEGABYTE}, "pids": {"limit": 5}}) as plan:
        change: dict[str, Any] = {
            "memory": {"limit": 32 * MEGABYTE, "reservation": 16 * MEGABYTE},
            "pids": {"limit": -1},
            "cpu": {"shares": 2},
        }
        cgroups.update(layout, plan, change)
        weight = "2" if "cpu" in layout.v1 else "1"
        assert limits(plan, layout) == [str(32 * MEGABYTE), str(16 * MEGABYTE), "max", weight]


def test_a_change_that_fails_changes_nothing(layout: Layout) -> None:
    """The last of four limits is refused; the other three, written by then, are put back."""
    for controller in ("memory", "pids", "cpu"):
        require(layout, controller)
    with cgroup(layout, {"memory": {"limit": 64 * MEGABYTE, "swap": 64 * MEGABYTE}, "cpu": {"shares": 512}}) as plan:
        before = limits(plan, layout)
        change = {
            "memory": {"limit": 128 * MEGABYTE, "swap": 128 * MEGABYTE, "reservation": 8 * MEGABYTE},
            "cpu": {"shares": 1000},
            "pids": {"limit": 1 << 40},
        }
        with pytest.raises(OSError, match=r"write `1099511627776` to `.*/pids\.max`: Invalid argument") as caught:
            cgroups.update(layout, plan, change)
        assert caught.value.errno == errno.EINVAL
        assert not getattr(caught.value, "__notes__", [])
        assert limits(plan, layout) == before
