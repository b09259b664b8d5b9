"""All that follows from a container's end follows, whatever fails on the way."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from teul.aio import run_blocking
from teul.errors import System
from teul.linux import cgroups
from teul.model import lifecycle
from teul.model.container import Container
from teul.model.lifecycle import Move, Status
from teul.services.containers import supervision as module
from teul.services.containers.run import NEXT_EXIT, NOT_RUNNING, REMOVED
from teul.store.metadata import containers as rows
from teul.store.metadata.database import DiskFull
from unit.services.containers.world import World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between restarts, which take no time here."""
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds not in (0, 0.001):
            waited.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waited


def fail_save(here: World) -> None:
    async def save(container: Container) -> None:
        raise OSError(28, "No space left on device")

    here.registry.save = save  # type: ignore[method-assign]


def fail_clean_up(here: World) -> None:
    here.launcher.cleaning_fails = FileNotFoundError(2, "No such file or directory", "exec-0123456789abcdef")


def fail_follower(here: World) -> None:
    def follower(container: Container, move: Move) -> None:
        if move is not Move.STARTED:
            raise ValueError("a follower must not raise")

    here.runs.follow(follower)


FAILURES = pytest.mark.parametrize("fail", [fail_save, fail_clean_up, fail_follower])


@FAILURES
async def test_a_container_with_rm_is_removed_whatever_fails_at_its_end(here: World, fail: Callable[[World], None]) -> None:
    container = await here.add(auto_remove=True)
    process = await here.start(container)
    waiters = [here.run(container).waiter(condition) for condition in (NOT_RUNNING, NEXT_EXIT, REMOVED)]
    fail(here)
    process.end(3)
    async with asyncio.timeout(10):
        assert [(await waiter).status_code for waiter in waiters] == [3, 3, 3]
    assert here.registry.find(container.id) is None
    assert here.launcher.cleaned == [container.id]
    assert here.events.actions[-2:] == ["die", "destroy"]


@FAILURES
async def test_a_container_is_restarted_whatever_fails_at_its_end(
    here: World, fail: Callable[[World], None], delays: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    container = await here.add(policy="always")
    process = await here.start(container)
    settled = here.run(container).settled
    fail(here)
    process.end(3)
    await until(lambda: len(here.launcher.processes) == 2, "the container runs again")
    assert settled.is_set()
    assert delays == [0.1]
    await until(lambda: container.state.status is Status.RUNNING, "the start is noted")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR], "the failure is in the log"


async def test_a_start_that_the_policy_wants_is_tried_again_and_again(here: World, delays: list[float]) -> None:
    """docker: with the delays of restarts. It used to be the end of the matter, and the container stayed down."""
    container = await here.add(policy="always")
    process = await here.start(container)
    here.launcher.failures = [System("no address"), OSError(24, "Too many open files"), ValueError("nobody foresaw this")]
    process.end(0)
    await until(lambda: len(here.launcher.processes) == 2, "the container runs again")
    assert delays == [0.1, 0.2, 0.4, 0.8]
    assert container.restart_count == 4


async def test_after_a_reboot_a_start_that_fails_is_tried_again(here: World, delays: list[float]) -> None:
    container = await here.add(policy="always", running=True)
    container.state = lifecycle.exited(container.state, exit_code=0, oom_killed=False, now_ns=5)
    container.state = lifecycle.exited(lifecycle.started(container.state, pid=1, now_ns=6), exit_code=0, oom_killed=False, now_ns=7)
    container.manually_stopped = True
    here.launcher.failures = [System("the seccomp filter is being written"), System("again")]
    await here.supervision.start_by_policy(rebooted=True)
    await until(lambda: here.launcher.processes, "the container runs")
    assert delays == [0.1, 0.2]
    here.launcher.processes[0].end(1)
    await until(lambda: len(here.launcher.processes) == 2, "a stop before the reboot is forgotten for good")


async def test_failing_restarts_count_like_others(here: World, delays: list[float]) -> None:
    """on-failure:2 is one start and two restarts, whether they succeed or not."""
    container = await here.add(policy="on-failure", retries=2)
    process = await here.start(container)
    here.launcher.failures = [System("one"), System("two"), System("three")]
    process.end(1)
    await until(lambda: container.state.status is Status.EXITED, "it is given up")
    assert [str(failure) for failure in here.launcher.failures] == ["three"]
    assert (container.restart_count, container.state.exit_code, container.state.error) == (2, 128, "two")


async def test_a_container_that_waits_for_another_try_can_be_stopped(here: World) -> None:
    container = await here.add(policy="always")
    process = await here.start(container)
    here.launcher.failures = [System("no address")] * 100
    process.end(0)
    await until(lambda: container.state.error == "no address", "the first try has failed")
    assert container.state.counts_as_running
    await here.lifecycle.stop(container.id)
    assert container.state.status is Status.EXITED
    assert here.run(container).restart is None


async def test_a_start_that_cannot_be_recorded_is_a_start_all_the_same(here: World) -> None:
    """The program runs; an answer that it does not would be a lie."""
    container = await here.add()
    fail_save(here)
    await here.start(container)
    assert container.state.status is Status.RUNNING


async def test_a_failing_start_by_hand_is_not_tried_again(here: World) -> None:
    container = await here.add(policy="always")
    here.launcher.failures = [System("no address")]
    with pytest.raises(System, match="no address"):
        await here.start(container)
    assert container.state.status is Status.CREATED
    assert here.run(container).restart is None


# -- taking over


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    state = [False]
    monkeypatch.setattr(cgroups, "is_frozen", lambda plan: state[0])
    monkeypatch.setattr(cgroups, "thaw", lambda plan: state.__setitem__(0, False))
    return state


async def recorded(here: World) -> list[Container]:
    return await here.registry._database.transact(rows.all_containers)


async def test_a_run_that_no_engine_recorded_is_counted(here: World, delays: list[float]) -> None:
    """The engine was killed between a restart and its record, and the next one came when the run was over."""
    container = await here.add(policy="on-failure", retries=2, running=True)
    container.state = lifecycle.restarting(container.state, exit_code=1, oom_killed=False, now_ns=1000)
    container.restart_count = 1
    left = here.launcher.left[container.id] = here.launcher.new_process()
    left.end(1, finished_at_ns=2000)
    await here.supervision.open()
    await until(lambda: container.restart_count == 2, "it is counted")
    await until(lambda: len(here.launcher.processes) == 2, "the second restart")
    here.launcher.processes[1].end(1, finished_at_ns=3000)
    await until(lambda: container.state.status is Status.EXITED, "there is no third")
    assert container.restart_count == 2


async def test_an_end_that_is_on_record_is_not_counted_twice(here: World, delays: list[float]) -> None:
    """The engine was killed between the record and the removal of the bundle."""
    container = await here.add(policy="on-failure", retries=2, running=True)
    container.state = lifecycle.restarting(container.state, exit_code=1, oom_killed=False, now_ns=1000)
    container.restart_count = 1
    left = here.launcher.left[container.id] = here.launcher.new_process()
    left.end(1, finished_at_ns=1000)
    await here.supervision.open()
    assert (container.restart_count, container.state.status) == (1, Status.RESTARTING)
    assert here.launcher.cleaned == [container.id]


@pytest.mark.parametrize(("began_ns", "count"), [(500, 1), (1500, 2)])
async def test_a_lost_end_is_told_from_the_recorded_one_by_when_its_run_began(here: World, began_ns: int, count: int) -> None:
    """Engine and keeper were killed: nobody knows when the process ended."""
    container = await here.add(policy="on-failure", retries=5, running=True)
    container.state = lifecycle.restarting(container.state, exit_code=1, oom_killed=False, now_ns=1000)
    container.restart_count = 1
    here.launcher.began_ns = began_ns
    left = here.launcher.left[container.id] = here.launcher.new_process()
    left.end(255, finished_at_ns=0)
    await here.supervision.open()
    await until(lambda: container.restart_count == count, "counted, or not")


async def test_what_is_frozen_and_runs_by_its_record_goes_on(here: World, frozen: list[bool]) -> None:
    """An engine killed in a commit, or between a freezing and its record, left a container that was "running" and did nothing."""
    container = await here.add(running=True)
    here.launcher.left[container.id] = here.launcher.new_process()
    frozen[0] = True
    await here.supervision.open()
    assert not frozen[0]
    assert container.state.status is Status.RUNNING
    assert (await recorded(here))[0].state.status is Status.RUNNING


async def test_what_was_thawed_is_not_paused(here: World, frozen: list[bool]) -> None:
    container = await here.add(running=True)
    container.state = lifecycle.paused(container.state)
    here.launcher.left[container.id] = here.launcher.new_process()
    await here.supervision.open()
    assert container.state.status is Status.RUNNING


async def test_the_cgroup_of_a_container_that_does_not_live_goes(here: World) -> None:
    """Its keeper was killed, or its starter before anything was written down."""
    container = await here.add()
    here.launcher.cgroups_on_host = {container.id}
    await here.supervision.open()
    assert here.launcher.ended_cgroups == [container.id]


async def test_one_container_that_cannot_be_taken_over_keeps_no_other_from_it(
    here: World, monkeypatch: pytest.MonkeyPatch, frozen: list[bool]
) -> None:
    container = await here.add(running=True)

    async def adopt(container_id: str) -> None:
        raise ValueError("the bundle's files are no JSON")

    monkeypatch.setattr(here.launcher, "adopt", adopt)
    here.launcher.cgroups_on_host = {container.id}
    await here.supervision.open()
    assert container.state.status is Status.EXITED
    assert here.launcher.ended_cgroups == [container.id], "nothing of it runs on unseen"


async def test_what_a_start_has_left_that_its_engine_did_not_live_to_carry_out_goes(here: World) -> None:
    container = await here.add()
    await here.supervision.open()
    assert here.launcher.cleaned == [], "there is nothing"
    await run_blocking(os.mkdir, here.launcher.directories.bundle(container.id))
    await here.supervision.open()
    assert here.launcher.cleaned == [container.id]
    assert container.state.status is Status.CREATED


async def test_a_run_of_which_there_is_no_record_is_watched_over_though_it_cannot_be_recorded(here: World, frozen: list[bool]) -> None:
    """An engine was killed in a start, and the disk is full when the next one comes."""
    container = await here.add()
    process = here.launcher.new_process()
    here.launcher.left = {container.id: process}
    fail_save(here)
    await here.supervision.open()
    assert container.state.status is Status.RUNNING
    assert here.run(container).process is process


async def test_a_start_is_recorded_though_its_caller_is_cancelled(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs: a record that knows nothing of it would lie."""
    container = await here.add()
    saving, go_on, save = asyncio.Event(), asyncio.Event(), here.registry.save

    async def save_slowly(changed: Container) -> None:
        saving.set()
        await go_on.wait()
        await save(changed)

    monkeypatch.setattr(here.registry, "save", save_slowly)
    starting = asyncio.get_running_loop().create_task(here.lifecycle.start(container.id))
    await saving.wait()
    starting.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    [row] = await recorded(here)
    assert row.state.status is container.state.status is Status.RUNNING
    assert here.events.actions == ["start"]


async def test_an_end_for_which_there_is_no_room_is_recorded_when_there_is(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then the bundle stays, which tells the next engine how the container ended."""
    monkeypatch.setattr(module, "_SETTLING_SECONDS", 0.001)
    container = await here.add()
    process = await here.start(container)
    save, attempts = here.registry.save, []

    async def save_at_last(ended: Container) -> None:
        attempts.append(list(here.launcher.cleaned))
        if len(attempts) < 4:
            raise DiskFull("teul.db")
        await save(ended)

    monkeypatch.setattr(here.registry, "save", save_at_last)
    process.end(3)
    await until(lambda: here.launcher.cleaned, "it is cleaned up after")
    assert attempts == [[], [], [], []]
    [row] = await recorded(here)
    assert (row.state.status, row.state.exit_code) == (Status.EXITED, 3)


async def test_an_end_that_another_start_has_followed_is_recorded_no_more(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLING_SECONDS", 0.001)
    container = await here.add()
    process = await here.start(container)
    with monkeypatch.context() as context:

        async def full(_ended: Container) -> None:
            raise DiskFull("teul.db")

        context.setattr(here.registry, "save", full)
        process.end(3)
        await until(lambda: len(here.tasks) == 1 and container.state.status is Status.EXITED, "its end has to wait")
        await here.start(container)
    await until(lambda: len(here.tasks) == 1, "nobody waits any more")
    assert here.launcher.cleaned == [], "what the second run has is its own"
