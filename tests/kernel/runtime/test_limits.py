"""The cgroup of a container: limits that stand and hold, what the OOM killer did, freezing, devices, and its removal."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from kernel.runtime.bare_containers import DEVICES, MEGABYTE, Bench, Running, Spec, eventually
from support.needs import needs
from teul.linux import cgroups
from teul.runtime.engine.process import StartError

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]

# Memory that counts: the pages of a tmpfs are charged to who writes them, and nothing but swap can take them back.
HOG = "dd if=/dev/zero of=/dev/shm/hog bs=1M count=60 2>/dev/null"


def limit(running: Running, controller: str, v1_file: str, v2_file: str) -> str:
    """What the kernel says the limit is, in whichever hierarchy has the controller."""
    layout = running.bench.layout
    directory, file = (layout.v1[controller], v1_file) if controller in layout.v1 else (layout.unified, v2_file)
    return Path(f"{directory}{running.plan['path']}/{file}").read_text().strip()


async def test_limits_stand_in_the_cgroup(bench: Bench) -> None:
    """Memory, processes and processor time, as asked."""
    resources = {"memory": {"limit": 64 * MEGABYTE}, "pids": {"limit": 33}, "cpu": {"shares": 512, "quota": 50_000, "period": 100_000}}
    running = await bench.start("sleep", "1000", resources=resources)
    assert limit(running, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MEGABYTE)
    assert limit(running, "pids", "pids.max", "pids.max") == "33"
    assert limit(running, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert limit(running, "cpu", "cpu.shares", "cpu.weight") in {"512", "20"} | {str(weight) for weight in range(50, 70)}


async def test_process_is_in_every_hierarchy_and_sees_itself_at_the_top(bench: Bench) -> None:
    """Its own cgroup namespace begins at its cgroup; its mount of /sys/fs/cgroup shows nothing above."""
    running = await bench.start("sleep", "1000")
    seen_from_host = Path(f"/proc/{running.pid}/cgroup").read_text().splitlines()
    ours = [line for line in seen_from_host if line.endswith(running.plan["path"])]
    assert len(ours) == len(running.plan["directories"])
    inside = (await running.ask("cat /proc/1/cgroup")).splitlines()
    assert len([line for line in inside if line.endswith(":/")]) >= len(ours)
    assert running.plan["path"] not in "".join(inside)
    members = await running.ask("cat $(find /sys/fs/cgroup -name cgroup.procs | head -n 1)")
    assert "1" in members.split()
    assert (await (await running.exec("mkdir", "/sys/fs/cgroup/mine")).ended()).code != 0


async def test_program_that_takes_too_much_memory_is_killed_and_that_is_recorded(bench: Bench) -> None:
    """`State.OOMKilled` of Docker."""
    resources = {"memory": {"limit": 24 * MEGABYTE, "swap": 24 * MEGABYTE}}
    ended = await bench.script(f"exec {HOG}", resources=resources)
    assert (ended.code, ended.record.oom_killed) == (137, True)


async def test_oom_kill_of_a_child_is_recorded_too(bench: Bench) -> None:
    """Although the container ends by itself and well."""
    resources = {"memory": {"limit": 24 * MEGABYTE, "swap": 24 * MEGABYTE}}
    ended = await bench.script(f"({HOG}); exit 5", resources=resources)
    assert (ended.code, ended.record.oom_killed) == (5, True)


async def test_smallest_memory_limit_is_enough_to_start(bench: Bench) -> None:
    """Docker's minimum of 6 MB: what is needed on the way to exec fits."""
    assert await bench.ask("echo fits", resources={"memory": {"limit": 6 * MEGABYTE, "swap": 6 * MEGABYTE}}) == "fits\n"


async def test_start_that_does_not_fit_its_memory_limit_is_reported(bench: Bench) -> None:
    """The child is killed by its own limit before it can say anything."""
    with pytest.raises(StartError) as caught:
        await bench.start("true", resources={"memory": {"limit": 64 << 10, "swap": 64 << 10}})
    assert caught.value.message
    assert bench.remains() == []


async def test_processes_are_limited(bench: Bench) -> None:
    ended = await bench.script("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo unlimited", resources={"pids": {"limit": 4}})
    assert "unlimited" not in ended.out
    assert "can't fork" in ended.err


async def test_exec_counts_against_the_containers_limits(bench: Bench) -> None:
    """Room for two is needed at the moment when an exec begins: what prepares it ends when it has forked the program's process."""
    running = await bench.start("sleep", "1000", resources={"pids": {"limit": 3}})
    ended = await (await running.exec("sh", "-c", "sleep 1 & sleep 1 & wait; echo unlimited")).ended()
    assert "can't fork" in ended.err


async def test_freezing_stops_all_and_thawing_goes_on(bench: Bench) -> None:
    """`docker pause`: also what was started by exec."""
    running = await bench.start("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /first; done")
    await running.exec("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /second; done")
    counters = [running.root / "first", running.root / "second"]

    def counts() -> list[str]:
        return [counter.read_text() if counter.exists() else "" for counter in counters]

    await eventually(lambda: all(counts()), "both count")
    cgroups.freeze(running.plan)
    frozen = counts()
    time.sleep(0.1)
    assert counts() == frozen
    cgroups.thaw(running.plan)
    await eventually(lambda: all(now != then for now, then in zip(counts(), frozen, strict=True) if now), "both go on counting")


async def test_frozen_container_can_be_killed(bench: Bench) -> None:
    running = await bench.start("sleep", "1000")
    cgroups.freeze(running.plan)
    running.process.signal(9)
    # kernel: under v2 it dies frozen as it is, and its cgroup may be gone already.
    with contextlib.suppress(FileNotFoundError):
        cgroups.thaw(running.plan)
    assert (await running.ended()).code == 137


DEVICE_RULES: list[dict[str, Any]] = [
    {"allow": False, "access": "rwm"},
    *({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for _, major, minor in DEVICES),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
]


async def test_device_filter_holds_whatever_nodes_are_made(bench: Bench) -> None:
    """Docker's rules: every node may be made, only the usual ones opened. Root in the container changes nothing about it."""
    script = """
        echo x > /dev/null && echo null-works
        mknod /tmp/null c 1 3 && echo y > /tmp/null && echo own-null-works
        mknod /tmp/kmsg c 1 11 && (cat < /tmp/kmsg > /dev/null) 2>&1
        mknod /tmp/disk b 8 0 && (cat < /tmp/disk > /dev/null) 2>&1
        mknod /tmp/fuse c 10 229 && (echo z > /tmp/fuse) 2>&1
    """
    ended = await bench.script(script, resources={"devices": DEVICE_RULES})
    lines = ended.out.splitlines()
    assert lines[:2] == ["null-works", "own-null-works"]
    assert len(lines) == 5, ended
    assert all("not permitted" in line for line in lines[2:]), ended


async def test_device_filter_holds_for_an_exec_and_terminals_work_under_it(bench: Bench) -> None:
    running = await bench.start("sleep", "1000", resources={"devices": DEVICE_RULES})
    assert "not permitted" in await running.ask("mknod /tmp/kmsg c 1 11; (cat < /tmp/kmsg) 2>&1 || true")
    terminal = await running.exec("tty", tty=True)
    assert (await terminal.ended()).out.strip() == "/dev/pts/0"


async def test_cgroup_is_gone_before_the_end_is_announced(bench: Bench) -> None:
    """Whoever hears of the end may start a container of the same name."""
    running = await bench.start("sh", "-c", "sleep 1000 & exit 0")
    await running.ended()
    assert [directory for directory in running.plan["directories"] if os.path.exists(directory)] == []


async def test_cgroups_made_inside_are_removed_too(bench: Bench) -> None:
    """A container with a writable cgroup (systemd in it, say) makes some of its own."""

    def change(spec: Spec) -> None:
        next(entry for entry in spec["mounts"] if entry["destination"] == "/sys/fs/cgroup")["options"].remove("ro")

    running = await bench.start(
        "sh",
        "-c",
        "for d in $(find /sys/fs/cgroup -name cgroup.procs); do mkdir -p ${d%/*}/a/b; done; echo made; exec sleep 1000",
        change=change,
    )
    await running.read_until("made")
    assert any(os.path.isdir(f"{directory}/a/b") for directory in running.plan["directories"])
    ended = await running.kill()
    assert ended.record.error is None
    assert bench.remains() == []


async def test_failure_does_not_touch_a_living_cgroup_of_the_same_name(bench: Bench) -> None:
    """A second start into the cgroup of a running container is refused at once, and the first goes on."""
    running = await bench.start("sleep", "1000")
    with pytest.raises(StartError, match="still has processes") as caught:
        await bench.start("true", message={"cgroup": running.plan})
    assert caught.value.step == "make the cgroup"
    assert await running.ask("echo alive") == "alive\n"
    assert all(os.path.isdir(directory) for directory in running.plan["directories"])
