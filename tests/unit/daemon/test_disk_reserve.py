"""Which requests are refused when little room is left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from teul.api import app
from teul.api.unsupported import ROUTES as UNSUPPORTED
from teul.daemon.disk_reserve import GROWING, DiskReserve, adds_data

_PLENTY = 1 << 62


@pytest.mark.parametrize(
    ("method", "path", "adds"),
    [
        ("POST", "/v1.41/containers/create", True),
        ("POST", "/images/create", True),
        ("PUT", "/v1.51/containers/web/archive", True),
        ("GET", "/containers/web/archive", False),
        ("POST", "/containers/create/start", False),
        ("POST", "/containers/web/start", False),
        ("DELETE", "/containers/create", False),
        ("POST", "/volumes/prune", False),
        ("POST", "/teul/containers/web/renew", True),
    ],
)
def test_what_adds_data(method: str, path: str, adds: bool) -> None:
    assert adds_data(method, path) is adds


def test_every_one_of_them_is_a_route() -> None:
    """Of a route that is called otherwise some day, nobody would notice that it is not guarded any more."""
    paths = {(method, path.replace("{id}", "x").replace("{name:.+}", "x").replace("{name}", "x")) for method, path, _ in app.routes()}
    assert UNSUPPORTED
    for method, pattern in GROWING:
        assert (method, pattern.replace("[^/]+", "x")) in paths, pattern


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[object]:
    """A function that says what becomes of a request where so much is kept."""
    runners: list[web.AppRunner] = []

    async def status(reserve_bytes: int, method: str, path: str) -> tuple[int, str]:
        application = web.Application(middlewares=[DiskReserve(str(tmp_path), reserve_bytes).middleware()])

        async def served(_request: web.Request) -> web.Response:
            return web.Response(text="served")

        application.router.add_route("*", "/{path:.*}", served)
        runners.append(web.AppRunner(application))
        await runners[-1].setup()
        socket_path = str(tmp_path / f"{len(runners)}.sock")
        await web.UnixSite(runners[-1], socket_path).start()
        connector = aiohttp.UnixConnector(socket_path)
        async with aiohttp.ClientSession(connector=connector) as session, session.request(method, f"http://x{path}") as answer:
            return answer.status, await answer.text()

    yield status
    for runner in runners:
        await runner.cleanup()


async def test_new_things_are_refused_and_nothing_else(ask: object, tmp_path: Path) -> None:
    assert callable(ask)
    status, text = await ask(_PLENTY, "POST", "/volumes/create")
    assert status == 500
    assert '"message":"no space left on device: ' in text
    assert f" are free where {tmp_path} is, and 4.612EB are kept for what is there already" in text
    assert await ask(_PLENTY, "DELETE", "/volumes/x") == (200, "served")
    assert await ask(0, "POST", "/volumes/create") == (200, "served")
    assert await ask(1, "POST", "/volumes/create") == (200, "served")
