"""What clients are answered about a container that is ending: Docker's 404, 409 or success, never what its files said."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from teul.errors import Conflict, System, TeulError
from teul.linux import cgroups
from teul.model.container import Container
from teul.model.lifecycle import Status
from teul.services.containers import lifecycle as module
from teul.services.containers.errors import NotRunning
from unit.services.containers.world import World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


@pytest.fixture
def thaws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was thawed; freezing and thawing work, until a test says otherwise."""
    done: list[str] = []
    monkeypatch.setattr(cgroups, "freeze", lambda plan: None)
    monkeypatch.setattr(cgroups, "thaw", lambda plan: done.append("own"))
    monkeypatch.setattr(cgroups, "thaw_tree", lambda plan: done.append("tree"))
    return done


def gone(plan: cgroups.Plan) -> None:
    """The container's cgroup was removed a moment ago."""
    raise FileNotFoundError(errno.ENOENT, "write `1` to `/sys/fs/cgroup/teul/…/cgroup.freeze`: No such file or directory")


def busy(plan: cgroups.Plan) -> None:
    raise TimeoutError(errno.ETIMEDOUT, "timed out waiting for the cgroup to freeze")


async def test_pausing_what_is_ending_is_a_conflict(here: World, thaws: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    container = await here.add()
    await here.start(container)
    monkeypatch.setattr(cgroups, "freeze", gone)
    with pytest.raises(NotRunning, match=f"container {container.id} is not running"):
        await here.lifecycle.pause(container.id)
    assert container.state.status is Status.RUNNING, "its end is told by its keeper"


async def test_pausing_what_ends_while_it_is_frozen_is_a_conflict(here: World, thaws: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead container must not be paused: nothing would ever unpause it."""
    container = await here.add()
    process = await here.start(container)
    loop = asyncio.get_running_loop()

    def freeze(plan: cgroups.Plan) -> None:
        asyncio.run_coroutine_threadsafe(end(), loop).result()

    async def end() -> None:
        process.end()

    monkeypatch.setattr(cgroups, "freeze", freeze)
    with pytest.raises(NotRunning):
        await here.lifecycle.pause(container.id)
    await until(lambda: container.state.status is Status.EXITED, "its end is recorded")


async def test_a_container_that_cannot_be_frozen_says_so(here: World, thaws: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    container = await here.add()
    await here.start(container)
    here.launcher.cgroups_on_host = {container.id}
    monkeypatch.setattr(cgroups, "freeze", busy)
    with pytest.raises(System, match=f"cannot pause container {container.id}: timed out"):
        await here.lifecycle.pause(container.id)
    assert container.state.status is Status.RUNNING


async def test_unpausing_what_is_ending_is_a_conflict(here: World, thaws: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    container = await here.add()
    await here.start(container)
    await here.lifecycle.pause(container.id)
    monkeypatch.setattr(cgroups, "thaw", gone)
    with pytest.raises(NotRunning):
        await here.lifecycle.unpause(container.id)


@pytest.mark.parametrize("verb", ["stop", "kill", "remove"])
async def test_a_paused_container_that_is_ending_can_be_ended(
    here: World, thaws: list[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """There is no cgroup left to thaw, and no need to."""
    container = await here.add()
    process = await here.start(container)
    await here.lifecycle.pause(container.id)
    monkeypatch.setattr(cgroups, "thaw", gone)
    process.dies_of = lambda number: number in (signal.SIGTERM, signal.SIGKILL)
    ways: dict[str, Callable[[str], object]] = {
        "stop": here.lifecycle.stop,
        "kill": here.lifecycle.kill,
        "remove": lambda reference: here.lifecycle.remove(reference, force=True),
    }
    async with asyncio.timeout(10):
        await ways[verb](container.id)  # type: ignore[misc] # all of them can be waited for
    assert not container.state.counts_as_running


async def unpaused_by_another(here: World, container: Container) -> None:
    await here.lifecycle.unpause(container.id)


async def test_stopping_what_somebody_else_unpauses_is_no_conflict(here: World, thaws: list[str]) -> None:
    container = await here.add()
    process = await here.start(container)
    await here.lifecycle.pause(container.id)
    process.dies_of = lambda number: number == signal.SIGKILL
    async with asyncio.timeout(10):
        results = await asyncio.gather(
            here.lifecycle.stop(container.id, timeout_seconds=1),
            here.lifecycle.stop(container.id, timeout_seconds=1),
            unpaused_by_another(here, container),
            return_exceptions=True,
        )
    assert [result for result in results if isinstance(result, Exception) and not isinstance(result, Conflict)] == []
    assert not any(results[:2])


@pytest.mark.parametrize("verb", ["stop", "kill", "remove"])
async def test_what_does_not_die_is_given_up_with_an_error(
    here: World, thaws: list[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """docker: daemon/kill.go. Before that all of its cgroup is thawed, again and again, since it may have frozen itself."""
    monkeypatch.setattr(module, "_KILL_SECONDS", 0.05)
    monkeypatch.setattr(module, "_THAW_SECONDS", 0.01)
    container = await here.add()
    await here.start(container)
    suffix = "tried to kill container, but did not receive an exit event"
    ways: dict[str, tuple[Callable[[str], object], str]] = {
        "stop": (lambda reference: here.lifecycle.stop(reference, timeout_seconds=0), f"cannot stop container: {container.name}: {suffix}"),
        "kill": (here.lifecycle.kill, f"Cannot kill container: {container.id}: {suffix}"),
        "remove": (
            lambda reference: here.lifecycle.remove(reference, force=True),
            f'cannot remove container "/{container.name}": could not kill: {suffix}',
        ),
    }
    act, text = ways[verb]
    with pytest.raises(System) as caught:
        async with asyncio.timeout(10):
            await act(container.id)  # type: ignore[misc] # all of them can be waited for
    assert caught.value.message == text
    assert len(thaws) >= 2
    assert set(thaws) == {"tree"}
    assert container.state.status is Status.RUNNING


async def test_two_restarts_at_once_keep_a_container_with_rm(here: World, thaws: list[str]) -> None:
    """The first of them to be done must not let --rm have the container while the other stops it."""
    container = await here.add(auto_remove=True)
    await here.start(container)

    async def restart() -> None:
        for process in here.launcher.processes:
            process.dies_of = lambda number: number == signal.SIGTERM
        await here.lifecycle.restart(container.id)

    async with asyncio.timeout(10):
        results = await asyncio.gather(restart(), restart(), return_exceptions=True)
    assert [result for result in results if isinstance(result, TeulError)] == []
    assert container.state.status is Status.RUNNING


async def test_a_kill_is_not_kept_waiting_by_the_next_run(here: World, thaws: list[str]) -> None:
    """Each run has its own word for "settled": whoever waits for the end of one run does not wait for the next one's."""
    container = await here.add()
    process = await here.start(container)
    process.dies_of = lambda number: number == signal.SIGKILL
    killing = asyncio.ensure_future(here.lifecycle.kill(container.id))
    await until(process.exit.done, "it is dead")
    await until(lambda: container.state.status is Status.EXITED, "its end is recorded")
    await here.start(container)
    async with asyncio.timeout(5):
        await killing
    assert container.state.status is Status.RUNNING
