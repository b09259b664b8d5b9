"""Lines of progress as moby writes them, and their way to a client that reads slowly, or has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from teul.api.http.progress import Document, aux_line, progress_line, relay
from teul.api.http.streaming import JsonStream
from teul.errors import Cancelled, NotFound


class Client(JsonStream):
    """Reads a line whenever `reads` lets it; gone if `gone`."""

    def __init__(self) -> None:
        super().__init__(make_mocked_request("GET", "/"), "application/json", b"\r\n")
        self.lines: list[Any] = []
        self.reads = asyncio.Semaphore(0)
        self.gone = False

    async def send(self, document: Any) -> None:
        await self.reads.acquire()
        if self.gone:
            raise Cancelled("the client went away")
        self.lines.append(document)

    def read(self, lines: int = 1000) -> None:
        for _ in range(lines):
            self.reads.release()


@pytest.mark.parametrize(
    ("current", "total", "bar"),
    [
        (1, 3, "[================>                                  ]       1B/3B"),
        (512_000, 1_024_000, "[=========================>                         ]    512kB/1.024MB"),
        (3, 3, "[==================================================>]       3B/3B"),
        (4, 3, "[==================================================>]       4B/3B"),
    ],
)
def test_a_bar_is_drawn_for_clients_that_draw_none(current: int, total: int, bar: str) -> None:
    assert progress_line("abc", "Pushing", current, total) == {
        "status": "Pushing",
        "progressDetail": {"current": current, "total": total},
        "progress": bar,
        "id": "abc",
    }


def test_a_line_without_numbers_has_an_empty_detail() -> None:
    assert progress_line("abc", "Waiting") == {"status": "Waiting", "progressDetail": {}, "id": "abc"}
    assert aux_line({"Tag": "1"}) == {"progressDetail": {}, "aux": {"Tag": "1"}}


async def test_a_slow_client_holds_up_nothing_and_gets_the_newest_numbers() -> None:
    client = Client()
    done = asyncio.Event()

    async def work(tell: Callable[[Document], None]) -> None:
        tell({"status": "first"})
        await asyncio.sleep(0)
        for number in range(1, 1000):
            tell(progress_line("a", "Pushing", number, 1000))
            tell(progress_line("b", "Pushing", number, 2000))
        tell(progress_line("a", "Pushed"))
        done.set()

    relayed = asyncio.ensure_future(relay(client, work))
    await done.wait()
    assert not client.lines
    client.read()
    await relayed
    assert client.lines == [
        {"status": "first"},
        progress_line("a", "Pushing", 999, 1000),
        progress_line("b", "Pushing", 999, 2000),
        progress_line("a", "Pushed"),
    ]


async def test_what_was_told_before_a_failure_is_sent_before_it() -> None:
    client = Client()
    client.read()

    async def work(tell: Callable[[Document], None]) -> None:
        tell({"status": "first"})
        raise NotFound("nothing there")

    with pytest.raises(NotFound, match="nothing there"):
        await relay(client, work)
    assert client.lines == [{"status": "first"}]


async def test_work_for_a_client_that_is_gone_is_cancelled() -> None:
    client = Client()
    client.gone = True
    client.read()
    cancelled = asyncio.Event()

    async def work(tell: Callable[[Document], None]) -> None:
        tell({"status": "first"})
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(Cancelled):
        await relay(client, work)
    assert cancelled.is_set()
