"""A container's life: how it starts, what ends it, what its exit code says, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from bare_containers import Bench, Spec, eventually
from support import processes
from support.needs import needs

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]

NAMESPACE_FILES = {"mount": "mnt", "pid": "pid", "uts": "uts", "ipc": "ipc", "network": "net", "cgroup": "cgroup"}


@pytest.mark.parametrize("code", [0, 1, 125, 255])
async def test_exit_code_is_the_programs(bench: Bench, code: int) -> None:
    """Whatever the number, it is not changed on the way."""
    ended = await bench.script(f"exit {code}")
    assert (ended.code, ended.record.signal, ended.record.error, ended.record.oom_killed) == (code, None, None, False)
    assert ended.record.finished_at_ns > 1_700_000_000_000_000_000


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGUSR1"])
async def test_death_by_signal_is_128_and_the_signal(bench: Bench, name: str) -> None:
    """A first process has no default actions for signals from inside, so the signal comes from outside."""
    number = signal.Signals[name]
    running = await bench.start("sh", "-c", "exec sleep 1000")
    if number != signal.SIGKILL:
        # kernel: the first process of a pid namespace is spared signals that it does not handle; so its shell gets a handler.
        running.process.signal(signal.SIGKILL)
        ended = await running.ended()
        assert ended.code == 137
        running = await bench.start("sh", "-c", f"trap 'exit {128 + number}' {number}; echo ready; while :; do sleep 0.05; done")
        await running.read_until("ready")
    running.process.signal(number)
    ended = await running.ended()
    assert ended.code == 128 + number
