"""Logs over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from teul.errors import System
from teul.model.log import LogEntry, LogQuery
from teul.wire.stdcopy import Demultiplexer, frame
from unit.api.fake_services import NOW_NS, RUNNING, make_container
from unit.api.served_api import Api

LINES: list[LogEntry | Exception] = [LogEntry(1, NOW_NS, b"out\n"), LogEntry(2, NOW_NS + 1, b"err\n", {"b": "2", "a": "x y"})]


async def read(api: Api, query: str, version: str = "1.51") -> tuple[str, bytes]:
    async with api.session.get(f"http://docker/v{version}/containers/box/logs?{query}") as response:
        return response.content_type, await response.read()


async def test_both_streams_in_frames(api: Api) -> None:
    api.services.containers.add(make_container())
    api.services.containers.entries = LINES
    kind, data = await read(api, "stdout=1&stderr=1")
    assert kind == "application/vnd.docker.multiplexed-stream"
    assert data == frame(1, b"out\n") + frame(2, b"err\n")
    assert (await read(api, "stdout=1", version="1.41"))[0] == "application/vnd.docker.raw-stream"


async def test_a_terminals_log_is_raw(api: Api) -> None:
    container = api.services.containers.add(make_container())
    container.config.tty = True
    api.services.containers.entries = LINES
    assert await read(api, "stdout=1&stderr=1") == ("application/vnd.docker.raw-stream", b"out\nerr\n")


async def test_timestamps_and_details(api: Api) -> None:
    container = api.services.containers.add(make_container())
    container.config.tty = True
    api.services.containers.entries = LINES
    _, data = await read(api, "stdout=1&stderr=1&timestamps=1&details=1")
    assert data == b"2023-11-14T22:13:20.123456789Z  out\n2023-11-14T22:13:20.123456790Z a=x+y,b=2 err\n"


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("stdout=1", LogQuery(stdout=True, stderr=False)),
        ("stderr=1&tail=all", LogQuery(stdout=False, stderr=True)),
        ("stdout=1&tail=0", LogQuery(stdout=True, stderr=False, tail=0)),
        ("stdout=1&tail=-1", LogQuery(stdout=True, stderr=False)),
        ("stdout=1&since=1.5&until=2", LogQuery(stdout=True, stderr=False, since_ns=1_500_000_000, until_ns=2_000_000_000)),
        ("stdout=1&since=0&until=0", LogQuery(stdout=True, stderr=False)),
    ],
)
async def test_what_is_asked_of_the_service(api: Api, text: str, query: LogQuery) -> None:
    api.services.containers.add(make_container())
    await read(api, text)
    assert api.services.containers.log_queries == [query]


async def test_followed_lines_come_as_they_are_written(api: Api) -> None:
    api.services.containers.add(make_container(state=RUNNING))
    api.services.containers.entries = list(LINES)
    async with api.session.get("http://docker/containers/box/logs?stdout=1&stderr=1&follow=1") as response:
        reader = Demultiplexer()
        pieces: list[tuple[int, bytes]] = []
        async with asyncio.timeout(2):
            while len(pieces) < 2:
                pieces += reader.feed(await response.content.readany())
            api.services.containers.log(LogEntry(1, NOW_NS, b"later\n"))
            pieces += reader.feed(await response.content.readany())
        assert pieces == [(1, b"out\n"), (2, b"err\n"), (1, b"later\n")]


async def test_following_ends_with_the_client(api: Api) -> None:
    api.services.containers.add(make_container(state=RUNNING))
    async with api.session.get("http://docker/containers/box/logs?stdout=1&follow=1") as response:
        response.close()
    async with asyncio.timeout(2):
        await api.services.containers.logs_closed.wait()


async def test_a_long_log_arrives_whole(api: Api) -> None:
    api.services.containers.add(make_container())
    api.services.containers.entries = [LogEntry(1, NOW_NS, b"%07d\n" % number) for number in range(50_000)]
    _, data = await read(api, "stdout=1")
    assert data == b"".join(frame(1, b"%07d\n" % number) for number in range(50_000))


async def test_a_slow_client_holds_up_the_reading_of_the_log(api: Api) -> None:
    api.services.containers.add(make_container())
    entry = LogEntry(1, NOW_NS, b"x" * 1000 + b"\n")
    api.services.containers.entries = [entry] * 20_000
    reader, writer = await api.connect()
    writer.write(b"GET /containers/box/logs?stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.1)
    assert 0 < api.services.containers.entries_read < 10_000
    async with asyncio.timeout(5):
        assert len(await reader.read()) > 20_000 * 1009
    writer.close()


async def test_what_goes_wrong_later_is_told_in_band(api: Api) -> None:
    api.services.containers.add(make_container())
    api.services.containers.entries = [LINES[0], System("log file is gone")]
    assert (await read(api, "stdout=1"))[1] == frame(1, b"out\n") + frame(3, b"Error grabbing logs: log file is gone\n")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("box/logs", 400, "must specify at least one of 'stdout' or 'stderr'"),
        ("box/logs?stdout=1&since=x", 400, 'invalid value for "since": invalid timestamp "x": invalid seconds "x": invalid syntax'),
        ("nosuch/logs?stdout=1", 404, "No such container: nosuch"),
    ],
)
async def test_what_cannot_be_read(api: Api, path: str, status: int, message: str) -> None:
    api.services.containers.add(make_container())
    assert await api.request("GET", f"/containers/{path}") == (status, {"message": message})
