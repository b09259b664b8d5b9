"""A keeper that stands still, as one does whose disk hangs: nobody waits for it for ever, nothing is lost, and when it goes on it is used again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from kernel.runtime.bare_containers import Bench, Running, Spec, eventually, opened_supervisor, within
from kernel.runtime.test_crashes import ECHO, KilledEngine, engine, running_in, say_end, talk
from support import processes
from support.needs import needs
from teul.runtime.engine.process import KeeperSilent
from teul.runtime.engine.supervisor import Supervisor

__all__ = ["engine"]

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]

_LEAST_PATIENCE_SECONDS = 0.3
_ALLOW_ALL = bytes.fromhex("060000000000ff7f")  # a filter of one instruction


@pytest_asyncio.fixture(loop_scope="session")
async def patience_seconds(bench: Bench) -> float:
    """Short, and yet long enough for a start: under an emulator that takes seconds."""
    began = time.monotonic()
    await bench.run("true")
    return max(_LEAST_PATIENCE_SECONDS, 4 * (time.monotonic() - began))


@pytest_asyncio.fixture(loop_scope="session")
async def supervisor(patience_seconds: float) -> AsyncIterator[Supervisor]:
    async with opened_supervisor(patience_seconds=patience_seconds) as supervisor:
        yield supervisor


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def last_directory(bench: Bench) -> Path:
    return bench.base / os.path.basename(bench._made[-1]["path"])


async def test_a_start_is_given_up_and_not_made_later(bench: Bench, supervisor: Supervisor) -> None:
    """It ends with an error, leaves nothing, and nothing comes of it when the keeper goes on; the next start is made by the same keeper."""
    keeper = supervisor.keeper_pid
    with standing_still(keeper):
        for _ in range(2):
            with pytest.raises(KeeperSilent, match="the keeper does not answer"):
                await bench.start("sleep", "1000", supervisor=supervisor)
        assert bench.remains() == []
    given_up = last_directory(bench)
    assert (await bench.run("echo", "next", supervisor=supervisor)).out == "next\n"
    assert supervisor.keeper_pid == keeper
    assert not {"monitor.sock", "pid.json", "exit.json"} & set(os.listdir(given_up))
    assert bench.remains() == []


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_start_that_is_half_made_is_given_up(bench: Bench, supervisor: Supervisor, has_begun: bool) -> None:
    """What there is by then is ended at once, and once more by the keeper when it goes on."""
    fifo = bench.base / "fifo"
    os.mkfifo(fifo)
    keeper = supervisor.keeper_pid

    def change(spec: Spec) -> None:
        spec["teul"]["seccomp_bpf"] = str(fifo)  # the child waits while it opens this

    def children(title: str) -> list[int]:
        return [pid for pid in processes.children_of(keeper) if processes.command_line(pid).startswith(title)]

    starting = asyncio.ensure_future(bench.start("sleep", "1000", change=change, supervisor=supervisor))
    [child] = await eventually(lambda: children("teul-init"), "the child waits")
    with standing_still(keeper):
        if has_begun:
            fifo.write_bytes(_ALLOW_ALL)
            await eventually(lambda: processes.command_line(child).startswith("sleep"), "the program has begun")
        with pytest.raises(KeeperSilent):
            await within(starting)
        await eventually(lambda: bench.remains() == [], "nothing of it is left")
    assert (await bench.run("echo", "next", supervisor=supervisor)).out == "next\n"
    await eventually(lambda: not children("sleep") and not children("teul-init"), "no zombie stays")
    assert bench.remains() == []


async def test_an_exec_that_is_half_made_is_given_up(bench: Bench, supervisor: Supervisor) -> None:
    """Only the keeper knows its process, and ends it when it goes on; its container is none the worse for it."""
    container = await bench.start("sleep", "1000", supervisor=supervisor)
    fifo = bench.base / "fifo"
    os.mkfifo(fifo)
    keeper = supervisor.keeper_pid

    def programs() -> list[int]:
        return [pid for pid in processes.children_of(keeper) if processes.command_line(pid).startswith("sleep 2000")]

    starting = asyncio.ensure_future(container.exec("sleep", "2000", teul={"seccomp_bpf": str(fifo)}, supervisor=supervisor))
    await eventually(lambda: len(list((container.bench.base).glob("*-exec-*/monitor.sock"))) == 1, "the exec is being made")
    with standing_still(keeper):
        await asyncio.to_thread(fifo.write_bytes, _ALLOW_ALL)
        await eventually(programs, "the program has begun")
        with pytest.raises(KeeperSilent):
            await within(starting)
    await eventually(lambda: not programs(), "it is ended")
    assert (await (await container.exec("echo", "next", supervisor=supervisor)).ended()).out == "next\n"
    assert not container.process.exit.done()
    await container.kill()


async def test_a_start_that_takes_long_is_not_given_up(bench: Bench, supervisor: Supervisor, patience_seconds: float) -> None:
    """A mount may hang for minutes, and then go on: the keeper is there, and says so whenever it is asked."""
    fifo = bench.base / "fifo"
    os.mkfifo(fifo)
    starting = asyncio.ensure_future(
        bench.start("echo", "late", change=lambda spec: spec["teul"].update(seccomp_bpf=str(fifo)), supervisor=supervisor)
    )
    await asyncio.wait({starting}, timeout=5 * patience_seconds)
    assert not starting.done()
    await asyncio.to_thread(fifo.write_bytes, _ALLOW_ALL)
    assert (await (await within(starting)).ended()).out == "late\n"


async def test_the_engine_leaves_without_it(bench: Bench, patience_seconds: float) -> None:
    """The containers stay, as with an engine that is killed; the keeper finds out, and keeps its part."""
    async with opened_supervisor(patience_seconds=patience_seconds) as supervisor:
        running = await bench.start("sh", "-c", "read line; exit 9", stdin="open", attach=False, supervisor=supervisor)
        assert supervisor._line is not None
        keeper = supervisor._line.keeper
        with standing_still(keeper.pid):
            await within(supervisor.close(), "the engine's end")
            assert processes.is_alive(running.pid)
            with open(f"/proc/{running.pid}/fd/0", "wb") as pipe:
                pipe.write(b"go\n")
    assert (await within(asyncio.shield(running.process.exit))).exit_code == 9
    await within(asyncio.to_thread(keeper.wait), "the keeper's leaving with its last container")


async def test_an_idle_one_is_not_waited_for_either(patience_seconds: float) -> None:
    async with opened_supervisor(patience_seconds=patience_seconds) as supervisor:
        assert supervisor._line is not None
        keeper = supervisor._line.keeper
        with standing_still(keeper.pid):
            await within(supervisor.close(), "the engine's end")
    await within(asyncio.to_thread(keeper.wait), "its leaving when it goes on")


async def test_the_next_engine_takes_over_what_it_watches(bench: Bench, engine: KilledEngine, supervisor: Supervisor) -> None:
    """Nobody says so, but the files do. When the keeper goes on, the streams are there, and the end is told; one keeper is waited for once."""
    directories = [engine.prepare("sh", "-c", ECHO) for _ in range(3)]
    await engine.run_and_kill()
    adopted: list[Running] = []
    with standing_still(engine.keeper):
        for number, directory in enumerate(directories):
            process = await engine.adopt(supervisor, number)
            assert process is not None
            assert process.pid == engine.pids[number]
            assert not process.exit.done()
            adopted.append(running_in(bench, directory, process))
        assert supervisor._silent_keepers == {engine.keeper}
        adopted[0].process.signal(signal.SIGKILL)
        await eventually(lambda: not processes.is_alive(engine.pids[0]), "it can be signalled")
    assert (await within(asyncio.shield(adopted[0].process.exit))).exit_code == 137
    for running in adopted[1:]:
        await talk(running, "hello")
        await eventually(lambda: running.process.kept, "the streams are kept")  # noqa: B023
        await say_end(running)
        assert (await within(asyncio.shield(running.process.exit))).exit_code == 7
        assert json.loads((running.directory / "exit.json").read_text())["exit_code"] == 7
