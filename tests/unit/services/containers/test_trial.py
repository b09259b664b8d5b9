"""Whether a new container is good, and what is said of one that is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.container_records import container_record
from teul.errors import NotImplementedHere, Refusal
from teul.model import health, lifecycle
from teul.model.container import Container
from teul.model.health import Health, HealthStatus
from teul.model.log import LogEntry, LogQuery
from teul.services.containers import trial
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.service import Containers
from teul.services.containers.trial import Trial
from teul.services.events import Events, container_event


class Log(Containers):
    """Containers that have written something, or whose log cannot be read."""

    def __init__(self, *lines: bytes, unreadable: bool = False) -> None:
        self.lines = lines
        self.unreadable = unreadable

    async def logs(self, reference: str, query: LogQuery) -> AsyncIterator[LogEntry]:
        if self.unreadable:
            raise NotImplementedHere("configured logging driver does not support reading")

        async def entries() -> AsyncIterator[LogEntry]:
            for line in self.lines[-(query.tail or 0) :]:
                yield LogEntry(1, 0, line)

        return entries()


class One(ContainerRegistry):
    """The registry of one container, which may be gone."""

    def __init__(self) -> None:
        self.is_there = True

    def exists(self, container_id: str) -> bool:
        return self.is_there


class Scene:
    """A container under trial, and what happens to it."""

    def __init__(self, log: Log | None = None, *, probed: bool = False) -> None:
        self.registry, self.events = One(), Events()
        self.container: Container = container_record(running=True, name="web")
        if probed:
            self.container.health = Health()
        self.trial = Trial(self.registry, log or Log(), self.events)

    async def judge(self, *happenings: str, seconds: float = 30) -> None:
        async def happen() -> None:
            for happening in happenings:
                while not self.events.listeners:
                    await asyncio.sleep(0)
                getattr(self, happening)()
                self.events.publish(container_event(self.container, happening))
                await asyncio.sleep(0)

        told = asyncio.create_task(happen())
        try:
            await self.trial.pass_(self.container, healthy_seconds=seconds)
        finally:
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)

    def nothing(self) -> None:
        pass

    def healthy(self) -> None:
        self.container.health = Health(status=HealthStatus.HEALTHY)

    def unhealthy(self) -> None:
        result = health.ProbeResult(started_at_ns=0, ended_at_ns=1, exit_code=4, output="ill\n")
        self.container.health = Health(status=HealthStatus.UNHEALTHY, failing_streak=3, log=(result,))

    def end(self) -> None:
        self.container.state = lifecycle.exited(self.container.state, exit_code=3, oom_killed=False, now_ns=2)

    def restart(self) -> None:
        self.container.restart_count = 1

    def vanish(self) -> None:
        self.registry.is_there = False


async def failure(scene: Scene, *happenings: str, seconds: float = 30) -> list[str]:
    with pytest.raises(Refusal) as raised:
        await scene.judge(*happenings, seconds=seconds)
    return raised.value.message.splitlines()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_CALM_SECONDS", 0.01)


async def test_without_a_probe_it_is_good_when_it_is_still_there_after_a_while() -> None:
    await Scene().judge("nothing")


async def test_with_a_probe_it_is_good_as_soon_as_it_is_healthy() -> None:
    await Scene(probed=True).judge("nothing", "healthy")
    scene = Scene(probed=True)
    scene.healthy()
    await scene.judge()


async def test_one_that_is_not_healthy_in_time_is_no_good() -> None:
    assert await failure(Scene(probed=True), "nothing", seconds=0.01) == ["its successor was not healthy within 0.01 s"]


@pytest.mark.parametrize(
    ("happening", "text"),
    [
        ("end", ["its successor ended with exit code 3"]),
        ("restart", ["its successor ended with exit code 0"]),
        ("vanish", ["its successor was removed"]),
        ("unhealthy", ["its successor is unhealthy", "the last probe ended with 4: ill"]),
    ],
)
async def test_the_reason_is_told(happening: str, text: list[str]) -> None:
    assert await failure(Scene(probed=True), happening) == text


async def test_the_last_lines_are_told_and_long_ones_are_cut() -> None:
    lines = [f"{number}\n".encode() for number in range(20)]
    told = await failure(Scene(Log(*lines, b"x" * 9999), probed=True), "end")
    assert told[1:3] == ["its last lines:", "  11"]
    assert len(told) == 12
    assert len(told[-1]) < 600


async def test_a_log_that_cannot_be_read_hides_no_reason() -> None:
    assert await failure(Scene(Log(unreadable=True), probed=True), "end") == ["its successor ended with exit code 3"]
