"""Which requests over TCP come from a web page, by their Origin and Host headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest
from aiohttp import web

from teul.api.app import create_app
from teul.api.http.connection import Runner
from teul.api.http.context import Services
from teul.api.http.origin import foreign_host, foreign_origin, own_names
from unit.api.fake_services import FakeServices
from unit.api.served_api import Api

NAMES = own_names(("unix:///x", "tcp://build.example:2375", "tcp://[::1]:2375"), node_name="buildbox")


@pytest.mark.parametrize(
    "host",
    [
        "build.example:2375",
        "BUILD.example.:2375",
        "buildbox:2375",
        "localhost",
        "localhost:2375",
        "api.moby.localhost",  # docker's client, forwarded from a unix socket
        "docker.example.com",  # docker's client, forwarded by ssh
        "127.0.0.1:2375",
        "[::1]:2375",
        "::1",
        "192.0.2.7:12375",  # an address before a translation
        "",
    ],
)
def test_a_name_that_nobody_can_point_here_is_let_in(host: str) -> None:
    assert not foreign_host(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:2375",
        "build.example.evil.example:2375",
        "localhost.evil.example",
        "notlocalhost:2375",
        "127.0.0.1.evil.example:2375",
        "[::1].evil.example:2375",
        "localhost:2375@evil.example",
        "evil.example#localhost",
        "127.1",  # a browser writes addresses out; what is left may be anybody's name
    ],
)
def test_any_other_name_is_foreign(host: str) -> None:
    """security: DNS rebinding. The attacker's name leads to this engine, and to the browser everything here is the attacker's own."""
    assert foreign_host(host, NAMES)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:2375", "127.0.0.1:2375"),
        ("http://localhost:2375", "127.0.0.1:2375"),
        ("http://build.example:2375", "127.0.0.1:2375"),
        ("https://any.example:12376", "any.example:12376"),  # a name that a certificate vouches for
    ],
)
def test_the_engines_own_pages_are_let_in(origin: str, host: str) -> None:
    assert not foreign_origin(origin, host, NAMES, address="127.0.0.1", port=2375)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:2375",
        "http://192.0.2.7:2375",
        "http://localhost:8080",
        "http://localhost",
        "http://127.0.0.1:2376",
        "null",
        "file://",
        "",
        "http://[",
        "http://localhost:x",
    ],
)
def test_every_other_page_is_foreign(origin: str) -> None:
    """security: any page can have a browser send requests to loopback, and a port is part of whose page it is."""
    assert foreign_origin(origin, "127.0.0.1:2375", NAMES, address="127.0.0.1", port=2375)


@pytest.fixture
async def tcp() -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """The application on a TCP port of loopback."""
    runner = Runner(create_app(cast("Services", FakeServices())), shutdown_timeout_seconds=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as session:
        yield session, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Origin": "http://evil.example"}, 'forbidden: requests of web pages of "http://evil.example" are refused'),
        ({"Host": "evil.example"}, 'forbidden: "evil.example" is not a name of this engine'),
        (
            {"Host": "evil.example:1", "Origin": "http://evil.example:1"},
            'forbidden: "evil.example:1" is not a name of this engine',
        ),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/_ping"), ("POST", "/containers/x/start"), ("GET", "/containers/x/attach/ws"), ("OPTIONS", "/x")]
)
async def test_over_tcp_they_are_refused(
    tcp: tuple[aiohttp.ClientSession, str], headers: dict[str, str], message: str, method: str, path: str
) -> None:
    session, url = tcp
    async with session.request(method, f"{url}{path}", headers=headers) as response:
        assert (response.status, await response.json()) == (403, {"message": message})


async def test_over_tcp_clients_are_served(tcp: tuple[aiohttp.ClientSession, str]) -> None:
    session, url = tcp
    for headers in ({}, {"Host": "localhost"}, {"Origin": url}):
        async with session.get(f"{url}/_ping", headers=headers) as response:
            assert response.status == 200


async def test_over_a_unix_socket_anything_goes(api: Api) -> None:
    """No browser gets there, and clients name whatever they like as the host."""
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert (await api.request("GET", "/_ping", headers=headers))[0] == 200
