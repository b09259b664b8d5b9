"""Files from any web server: what an address may be, where redirects lead, and what is told when it goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from teul.errors import Forbidden, InvalidParameter, NotFound, Remote, TeulError, Unauthorized
from teul.registry.client.registry_client import RegistryClient
from teul.registry.client.web_files import parse_web_address


@pytest.mark.parametrize(
    ("source", "url", "text"),
    [
        ("http://a/b", "http://a/b", "http://a/b"),
        ("a:80/b?c=d#e", "http://a/b?c=d", "http://a:80/b?c=d#e"),
        ("HTTPS://a/", "https://a/", "https://a/"),
        ("https://me:secret@a/b c", "https://me:secret@a/b%20c", "https://me:***@a/b c"),
        ("http://me@[::1]:8/", "http://me@[::1]:8/", "http://me@[::1]:8/"),
        ("http://a/%2f", "http://a/%2F", "http://a/%2f"),
    ],
)
def test_addresses(source: str, url: str, text: str) -> None:
    address = parse_web_address(source)
    assert (str(address.url), address.text) == (url, text)


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("", Remote, 'Get "http:": http: no Host in request URL'),
        ("ftp://a/b", Remote, 'Get "ftp://a/b": unsupported protocol scheme "ftp"'),
        ("http://a:65536/", Remote, 'Get "http://a:65536/": dial tcp: address 65536: invalid port'),
        ("://a", InvalidParameter, 'parse "://a": missing protocol scheme'),
        ("http://a:b/", InvalidParameter, 'parse "http://a:b/": invalid port ":b" after host'),
        ("http://[::1]b/", InvalidParameter, 'parse "http://[::1]b/": invalid port "b" after host'),
        ("http://[::1/", InvalidParameter, "parse \"http://[::1/\": missing ']' in host"),
        ('http://a"b/', InvalidParameter, 'parse "http://a\\"b/": invalid character "\\"" in host name'),
        ("http://a/%g0", InvalidParameter, 'parse "http://a/%g0": invalid URL escape "%g0"'),
        ("http://a/\n", InvalidParameter, 'parse "http://a/\\x0a": net/url: invalid control character in URL'),
        ("http://me:secret@a b/", InvalidParameter, 'parse "http://me:***@a b/": invalid character " " in host name'),
    ],
)
def test_what_is_no_address(source: str, kind: type[TeulError], message: str) -> None:
    with pytest.raises(kind) as caught:
        parse_web_address(source)
    assert caught.value.message == message
    assert type(caught.value) is kind


class Server:
    """Answers with what `answers` has for a path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.host = ""
        self.answers: dict[str, web.Response] = {}
        self.seen: list[tuple[str, str | None]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.path, request.headers.get("Authorization")))
        if request.path == "/half":
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"x" * 50)
            assert request.transport is not None
            request.transport.close()
            return response
        answer = self.answers[request.path]
        return web.Response(status=answer.status, reason=answer.reason, body=answer.body, headers=answer.headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.host = f"127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


async def fetch(client: RegistryClient, source: str) -> tuple[bytes, int | None]:
    async with client.open_web_file(parse_web_address(source)) as file:
        return b"".join([chunk async for chunk in file.chunks()]), file.size_bytes


async def test_a_file_by_way_of_redirects(client: RegistryClient, server: Server) -> None:
    """Who has a name there is not the server's business to which they lead."""
    server.answers = {
        "/one": web.Response(status=307, headers={"Location": "two?x"}),
        "/two": web.Response(status=301, headers={"Location": f"http://{server.host.replace('127.0.0.1', 'localhost')}/three"}),
        "/three": web.Response(body=b"the file"),
    }
    assert await fetch(client, f"http://me:secret@{server.host}/one") == (b"the file", 8)
    assert [path for path, _ in server.seen] == ["/one", "/two", "/three"]
    assert server.seen[0][1] is not None
    assert server.seen[2][1] is None


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/loop", 'Get "/loop": stopped after 10 redirects'),
        ("file:///etc/passwd", 'Get "file:///etc/passwd": unsupported protocol scheme "file"'),
        ("ftp://a/b", 'Get "ftp://a/b": unsupported protocol scheme "ftp"'),
        ("http://[::1", 'Get "http://HOST/loop": failed to parse Location header "http://[::1"'),
        ("http://127.0.0.1:1/x", 'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused'),
    ],
)
async def test_where_nothing_leads(client: RegistryClient, server: Server, location: str, message: str) -> None:
    server.answers = {"/loop": web.Response(status=302, headers={"Location": location})}
    with pytest.raises(Remote) as caught:
        await fetch(client, f"http://{server.host}/loop")
    assert caught.value.message.replace(server.host, "HOST") == message


@pytest.mark.parametrize(
    ("status", "kind"), [(400, InvalidParameter), (401, Unauthorized), (403, Forbidden), (404, NotFound), (500, Remote)]
)
async def test_refusals(client: RegistryClient, server: Server, status: int, kind: type[TeulError]) -> None:
    server.answers = {"/": web.Response(status=status, reason="Because", body=b"\n in \x1b[31mred \n")}
    with pytest.raises(kind) as caught:
        await fetch(client, server.host)
    assert caught.value.message.replace(server.host, "HOST") == f"failed to GET http://HOST with status {status} Because: in [31mred"
    server.answers = {"/": web.Response(status=status, body=b"x" * 1_000_000)}
    with pytest.raises(kind) as caught:
        await fetch(client, server.host)
    assert len(caught.value.message) < 10_000


async def test_a_line_that_breaks(client: RegistryClient, server: Server) -> None:
    with pytest.raises(Remote, match=r"^unexpected EOF$"):
        await fetch(client, f"{server.host}/half")


async def test_a_server_that_hangs_up_while_it_refuses(client: RegistryClient) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listener:
        source = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        with pytest.raises(Remote) as caught:
            await fetch(client, source)
    assert caught.value.message == f"failed to GET {source} with status 404 No: error reading body"
