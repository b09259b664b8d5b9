"""Monitors whose cgroups are not to be removed yet, and others that share the loop with them.

The loop and the monitors are the keeper's, run by the test: its clock stands still unless the test moves it, and whoever sleeps fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.runtime.bare_containers import CGROUP_PARENT
from support.needs import needs
from teul.linux import cgroups
from teul.linux.cgroups import Layout, Plan, files
from teul.linux.cgroups.members import freezing
from teul.linux.loop import Loop
from teul.linux.process import open_pidfd
from teul.runtime.keeper.monitor import Monitor
from teul.runtime.keeper.starter import LOST, Started
from teul.runtime.messages import Request
from teul.wire import monitor as wire

pytestmark = needs("root")

_MOST_TURNS = 20_000  # of the loop, for what takes a few: ends what would go on for ever


def layouts() -> list[Layout]:
    """The host's own layout, and on a hybrid host its v1 half: that one cannot kill a cgroup without freezing it first."""
    whole = cgroups.detect()
    return [whole, Layout(whole.v1, whole.hierarchies, None, frozenset())] if whole.mode == "hybrid" else [whole]


class House:
    """A loop with monitors of processes of the test's."""

    def __init__(self, base: Path, layout: Layout) -> None:
        self.now = 0.0
        self.loop = Loop(self._on_trouble, clock=lambda: self.now)
        self.closed: list[Monitor] = []
        self.plans: list[Plan] = []
        self._base = base
        self._layout = layout
        self._processes: list[subprocess.Popen[bytes]] = []
        self._monitors: list[Monitor] = []
        self._controls: list[socket.socket] = []

    @staticmethod
    def _on_trouble(_owner: object, error: Exception) -> None:
        raise error

    def plan(self) -> Plan:
        plan = cgroups.plan(self._layout, f"{CGROUP_PARENT}/busy-{len(self.plans)}")
        cgroups.create(plan)
        self.plans.append(plan)
        return plan

    def process(self, *args: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._processes.append(process)
        return process

    def squat(self, plan: Plan) -> subprocess.Popen[bytes]:
        """Park a process in a cgroup below those of `plan`."""
        process = self.process("sleep", "1000")
        for directory in plan["directories"]:
            if directory == plan["cpuset_directory"]:
                continue  # takes no process before it has processors
            os.mkdir(f"{directory}/nested")
            files.write(f"{directory}/nested/cgroup.procs", str(process.pid))
        return process

    def guard(self, plan: Plan | None, *, kill_cgroup: bool = False) -> tuple[Monitor, socket.socket, Path]:
        """A monitor that has yet to begin, the engine's end of its control connection, and its directory."""
        directory = self._base / f"container-{len(list(self._base.iterdir()))}"
        directory.mkdir()
        launch: dict[str, Any] = {
            "kind": "create",
            "directory": str(directory),
            "spill_directory": str(directory),
            "log": None,
            "cgroup": plan,
            "kill_cgroup": kill_cgroup,
            "stdin": "open",
        }
        request: Request = {"launch": launch, "attach": [], "resume": None}  # type: ignore[typeddict-item] # the rest is the starter's
        near, far = socket.socketpair()
        near.setblocking(False)
        monitor = Monitor(self.loop, request, [far], on_close=self.closed.append, expect_end=lambda _pid: None, busy=set())
        monitor.prepare()
        self._monitors.append(monitor)
        self._controls.append(near)
        return monitor, near, directory

    def begin(self, monitor: Monitor, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        streams = {"stdin": os.dup(process.stdin.fileno()), "stdout": os.dup(process.stdout.fileno())}
        monitor.pid = process.pid
        monitor.begin(Started(process.pid, open_pidfd(process.pid), streams))  # type: ignore[arg-type] # the keys are roles

    def turn_until(self, check: Callable[[], object], what: str, *, time_passes: bool = False) -> None:
        """Turn the loop until `check` is true. If time passes, then from one call that is due to the next."""
        for _ in range(_MOST_TURNS):
            if check():
                return
            if time_passes and self.loop._later:
                self.now = max(self.now, self.loop._later[0][0])
            self.loop.turn()
        raise AssertionError(f"not after {_MOST_TURNS} turns of the loop: {what}")

    def close(self) -> None:
        for control in self._controls:
            control.close()
        for monitor in self._monitors:
            if monitor not in self.closed:
                monitor.close()
        for plan in self.plans:
            cgroups.thaw_tree(plan)
        for process in self._processes:
            process.kill()
            if process.returncode is None:
                try:
                    os.waitpid(process.pid, 0)
                except ChildProcessError:
                    pass  # its monitor has reaped it
            process.returncode = 0
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()
        for plan in self.plans:
            cgroups.remove(plan)


@pytest.fixture(params=layouts(), ids=lambda layout: layout.mode)
def house(request: pytest.FixtureRequest, tmp_path: Path, cgroup_parent: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    house = House(tmp_path, request.param)

    def sleep(_seconds: float) -> None:
        raise AssertionError("the keeper sleeps, and with it all its monitors")

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", sleep)
        yield house
    house.close()


def says(connection: socket.socket) -> list[tuple[int, bytes]]:
    """The frames that have come in."""
    reader = wire.FrameReader()
    frames: list[tuple[int, bytes]] = []
    with contextlib.suppress(BlockingIOError):
        while data := connection.recv(1 << 16):
            frames += reader.feed(data)
    return frames


def test_busy_cgroups_hold_up_no_other_container(house: House) -> None:
    """Ten containers end, and something keeps their cgroups: another one's output and end come through; the ten end once that has gone."""
    ended = []
    for _ in range(10):
        plan = house.plan()
        squatter = house.squat(plan)
        monitor, control, directory = house.guard(plan)
        process = house.process("true")
        house.begin(monitor, process)
        ended.append((squatter, control, directory / "exit.json"))
    other, other_control, other_directory = house.guard(house.plan())
    cat = house.process("cat")
    house.begin(other, cat)
    other._clients[next(iter(other._clients))].stdout = True
    house.turn_until(lambda: house.loop._later and len(house.loop._later) >= 10, "all the ten wait for their cgroups")
    says(other_control)

    assert cat.stdin is not None
    heard: list[tuple[int, bytes]] = []

    def count_heard() -> int:
        heard.extend(says(other_control))
        return len(heard)

    for number in range(5):
        cat.stdin.write(f"{number}\n".encode())
        cat.stdin.flush()
        house.turn_until(lambda: count_heard() > number, "the other one is heard")  # noqa: B023
        assert heard[-1] == (wire.STDOUT, f"{number}\n".encode())
    cat.send_signal(signal.SIGKILL)
    house.turn_until((other_directory / "exit.json").exists, "the other one's end is known", time_passes=True)
    assert [path for _squatter, _control, path in ended if path.exists()] == []

    for squatter, _control, _path in ended:
        squatter.kill()
        squatter.wait()
    house.turn_until(lambda: all(path.exists() for _squatter, _control, path in ended), "the ten end", time_passes=True)
    for _squatter, control, path in ended:
        record = json.loads(path.read_text())
        assert record["exit_code"] == 0
        assert "cgroup_error" not in record
        assert says(control)[-1] == (wire.EXITED, path.read_bytes())
    assert [directory for plan in house.plans for directory in plan["directories"] if os.path.exists(directory)] == []


def test_what_is_left_in_a_cgroup_ends_with_the_container(house: House) -> None:
    """An exec that is being started is in the cgroup before it is in the pid namespace; in a container that was paused it stands still."""
    plan = house.plan()
    straggler = house.squat(plan)
    for _pause in freezing(plan, timeout_seconds=1e6):
        continue
    monitor, _control, directory = house.guard(plan)
    house.begin(monitor, house.process("true"))
    house.turn_until((directory / "exit.json").exists, "its end is known", time_passes=True)
    assert "cgroup_error" not in json.loads((directory / "exit.json").read_text())
    assert straggler.wait() == -signal.SIGKILL
    assert [directory for directory in plan["directories"] if os.path.exists(directory)] == []


def test_a_cgroup_that_stays_busy_is_left_behind_and_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that hangs in the kernel and does not die. The end of the container's is not kept from anybody for ever."""
    monkeypatch.setattr(cgroups, "killing", lambda _plan: iter(()))
    plan = house.plan()
    squatter = house.squat(plan)
    monitor, _control, directory = house.guard(plan)
    house.begin(monitor, house.process("true"))
    house.turn_until((directory / "exit.json").exists, "its end is known", time_passes=True)
    record = json.loads((directory / "exit.json").read_text())
    assert "the cgroup still has processes" in record["cgroup_error"]
    assert house.now >= 3.0
    squatter.kill()
    squatter.wait()


@needs("cgroup1")
@pytest.mark.parametrize("house", layouts()[-1:], indirect=True, ids=["v1"])
@pytest.mark.parametrize("how", ["at its end", "when its start fails"])
def test_killing_what_does_not_freeze_holds_up_no_other_container(house: House, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """cgroup v1 kills what stands still. What cannot be made to stand still is killed as it is, after tries that cost the others nothing."""
    read = files.read

    def never_frozen(path: str) -> str:
        return "FREEZING\n" if path.endswith("/freezer.state") else read(path)

    monkeypatch.setattr(files, "read", never_frozen)
    other, other_control, _directory = house.guard(None)
    cat = house.process("cat")
    house.begin(other, cat)
    other._clients[next(iter(other._clients))].stdout = True
    assert cat.stdin is not None

    plan = house.plan()
    squatter = house.squat(plan)
    monitor, _control, directory = house.guard(plan, kill_cgroup=True)
    if how == "at its end":
        house.begin(monitor, house.process("true"))
    else:
        monitor.abandon(LOST)

    def is_over() -> bool:
        squatter.poll()
        return (directory / "exit.json").exists() if how == "at its end" else monitor in house.closed

    cat.stdin.write(b"hello\n")
    cat.stdin.flush()
    house.turn_until(lambda: (wire.STDOUT, b"hello\n") in says(other_control), "the other one is heard")
    assert not is_over()
    house.turn_until(is_over, "the killing is done", time_passes=True)
    assert squatter.wait() == -signal.SIGKILL
    assert [directory for directory in plan["directories"] if os.path.exists(directory)] == []
