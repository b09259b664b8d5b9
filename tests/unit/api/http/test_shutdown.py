"""What ends with the server has ended when the server has: what a handler uses is closed next."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from teul.api.http.connection import Runner


class Undoing:
    """A handler that has something to undo when it is cancelled, which takes a while."""

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def handle(self, _request: web.Request) -> web.Response:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
            self.ended.set()
        raise AssertionError("nobody sets it")


@pytest.mark.parametrize("client_stays", [True, False], ids=["its client waits", "its client has gone"])
async def test_a_handler_has_undone_what_it_began(tmp_path: Path, client_stays: bool) -> None:
    handler, app = Undoing(), web.Application()
    app.router.add_post("/", handler.handle)
    runner = Runner(app, shutdown_timeout_seconds=0.01)
    await runner.setup()
    path = str(tmp_path / "api.sock")
    await web.UnixSite(runner, path).start()
    _reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"POST / HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(10):
        await handler.began.wait()
        if not client_stays:
            writer.close()
            await writer.wait_closed()
            assert runner.server is not None
            while any(each.transport is not None for each in runner.server.connections):
                await asyncio.sleep(0)
        await runner.cleanup()
    assert handler.ended.is_set()
    writer.close()
