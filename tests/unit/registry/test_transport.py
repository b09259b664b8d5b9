"""Where requests go and where they do not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest
from yarl import URL

from support.registry import FakeRegistry
from teul.oci.reference import parse_reference
from teul.registry.answers import describe_refusal, next_link
from teul.registry.backoff import Backoff, parse_retry_after
from teul.registry.certificates import load_client_context
from teul.registry.client.registry_client import RegistryClient
from teul.registry.errors import BadAnswer, ConnectionFailed, InvalidRegistryConfig, Refused, Unreachable
from teul.registry.proxies import Proxies
from teul.registry.transport import Options, Request, Transport, _Body, resolve_location

BASE = URL("https://registry.example/v2/x/blobs/y")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/there?a=b%2Fc", "https://registry.example/v2/there?a=b%2Fc"),
        ("https://store.example/x?sig=a%2Bb", "https://store.example/x?sig=a%2Bb"),
        ("//store.example/x", "https://store.example/x"),
        ("there#part", "https://registry.example/v2/x/blobs/there"),
    ],
)
def test_a_location_is_read_beside_where_it_was_found(location: str, target: str) -> None:
    assert str(resolve_location(location, BASE)) == target


@pytest.mark.parametrize("location", ["http://registry.example/v2/x", "ftp://x/", "javascript:1", "https://u@x/", "https://x:0x1/"])
def test_a_location_that_leads_out_is_refused(location: str) -> None:
    with pytest.raises(BadAnswer):
        resolve_location(location, BASE)


def test_what_has_a_digest_may_come_in_the_clear() -> None:
    assert str(resolve_location("http://store.example/x", BASE, is_addressed=True)) == "http://store.example/x"


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        (['</v2/x/tags/list?n=2&last=b>; rel="next"'], "/v2/x/tags/list?n=2&last=b"),
        (['<a>; rel=prev, <b>; rel="next"'], "b"),
        (["<a>;rel=NEXT"], "a"),
        (["<a>"], "a"),
        (['<a>; rel="prev"'], None),
        (["", "no link", "<", "<>; rel=next"], None),
        (["<" * 100_000], None),
    ],
)
def test_the_next_page_is_found_in_links(headers: list[str], target: str | None) -> None:
    assert next_link(headers) == target


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 1000, 999999999.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2026 07:00:00 GMT", 0.0),
        ("²", None),
    ],
)
def test_patience_is_asked_for_in_seconds_or_until_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=datetime(2026, 10, 21, 7, 27, tzinfo=UTC)) == seconds


def test_waits_grow_and_end() -> None:
    backoff = Backoff(jitter=lambda: 0.0)
    waits = [backoff.wait_seconds(failures, ConnectionFailed("EOF")) for failures in range(1, 6)]
    assert waits == [0.25, 0.5, 1.0, 2.0, None]
    assert backoff.wait_seconds(1, Refused("no", status=404)) is None
    assert backoff.wait_seconds(1, BadAnswer("what?")) is None
    assert Backoff(attempts=99, jitter=lambda: 1.0).wait_seconds(98, ConnectionFailed("EOF")) == 60.0


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_an_unexpected_status_is_told(status: int) -> None:
    reason = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}.get(status, "odd")
    assert describe_refusal(status, "odd", {}, b"").message == f"received unexpected HTTP status: {status} {reason}"


@pytest.mark.parametrize(
    ("challenge", "message", "code"),
    [
        ('Bearer realm="r",error="insufficient_scope"', "denied: requested access to the resource is denied", "DENIED"),
        ('Bearer realm="r",error="invalid_token",error_description="too old"', "unauthorized: too old", "UNAUTHORIZED"),
        ('Bearer realm="r"', "unauthorized: authentication required", "UNAUTHORIZED"),
    ],
)
def test_a_challenge_tells_what_is_missing(challenge: str, message: str, code: str) -> None:
    refused = describe_refusal(401, "Unauthorized", {"WWW-Authenticate": challenge, "Content-Type": "application/json"}, b"")
    assert (refused.message, refused.code) == (message, code)


ENVIRONMENT = {
    "https_proxy": "proxy.example:3128",
    "HTTP_PROXY": "http://u:p@plain.example",
    "NO_PROXY": "a.example,.b.example,10.0.0.0/8,c:8080",
}


@pytest.mark.parametrize(
    ("scheme", "host", "port", "proxy"),
    [
        ("https", "registry.example", 443, "http://proxy.example:3128"),
        ("http", "registry.example", 80, "http://u:p@plain.example"),
        ("https", "a.example", 443, None),
        ("https", "x.A.example", 443, None),
        ("https", "xa.example", 443, "http://proxy.example:3128"),
        ("https", "b.example", 443, "http://proxy.example:3128"),
        ("https", "x.b.example", 443, None),
        ("https", "10.1.2.3", 443, None),
        ("https", "11.1.2.3", 443, "http://proxy.example:3128"),
        ("https", "c", 8080, None),
        ("https", "c", 443, "http://proxy.example:3128"),
        ("https", "localhost", 443, None),
        ("http", "127.0.0.9", 5000, None),
        ("https", "::1", 443, None),
    ],
)
def test_proxies_are_chosen_as_go_chooses_them(scheme: str, host: str, port: int, proxy: str | None) -> None:
    assert Proxies.of_environment(ENVIRONMENT).proxy_for(scheme, host, port) == proxy


def test_everything_may_be_excepted_from_proxies() -> None:
    assert Proxies("http://p", "http://p", " * ").proxy_for("https", "registry.example", 443) is None
    assert Proxies.of_environment({}).proxy_for("https", "registry.example", 443) is None
    assert "secret" not in repr(Proxies("http://u:secret@p"))


@pytest.mark.parametrize("proxy", ["socks5://p", "http://", "http://[", "http://p:99999"])
def test_a_proxy_that_cannot_be_is_refused(proxy: str) -> None:
    with pytest.raises(InvalidRegistryConfig, match=r"^invalid proxy address"):
        Proxies.of_environment({"HTTPS_PROXY": proxy})


async def test_a_request_goes_by_its_proxy(options: Options) -> None:
    async with FakeRegistry() as proxy:
        proxies = Proxies(http=proxy.url)
        async with (
            Transport(Options(proxies=proxies, certificate_directories=())) as transport,
            await transport.send(Request("GET", URL("http://registry.example/v2/")), None) as response,
        ):
            assert response.status == 200
        assert proxy.seen[0].headers["Host"] == "registry.example"


async def test_a_name_that_nobody_knows_is_told_as_go_tells_it(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    async with RegistryClient(options) as client:
        repository = await client.repository(parse_reference("nowhere.example/x"))
        with pytest.raises(Unreachable) as caught:
            await repository.resolve()
    assert caught.value.message == 'Get "https://nowhere.example/v2/": dial tcp: lookup nowhere.example: no such host'


async def test_a_registry_in_the_clear_is_told_from_a_tls_one(registry: FakeRegistry) -> None:
    async with Transport(Options(certificate_directories=())) as transport:
        with pytest.raises(ConnectionFailed) as caught:
            await transport.send(Request("GET", URL(f"https://{registry.host}/v2/")), load_client_context("x", verify=False))
    assert caught.value.message == f'Get "https://{registry.host}/v2/": http: server gave HTTP response to HTTPS client'


Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def talks_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-nonsense\r\n\r\n")


async def sends_headers_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20))


@asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[int]:
    """The port of a server that answers as `peer` does, and hangs up."""
    answers: list[asyncio.Task[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answers.append(task)
        await peer(reader, writer)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*answers)


@pytest.mark.parametrize(
    ("peer", "problem"),
    [
        (silent, "net/http: timeout awaiting response headers"),
        (hangs_up, "EOF"),
        (talks_nonsense, "net/http: HTTP/1.x transport connection broken: malformed HTTP response"),
        (sends_headers_without_end, "net/http: HTTP/1.x transport connection broken: malformed HTTP response"),
    ],
)
async def test_a_peer_that_is_no_registry_is_told(peer: Peer, problem: str) -> None:
    async with listening(peer) as port:
        async with Transport(Options(certificate_directories=(), silence_seconds=0.05)) as transport:
            with pytest.raises(ConnectionFailed) as caught:
                await transport.send(Request("GET", URL(f"http://127.0.0.1:{port}/v2/")), None)
        assert caught.value.message == f'Get "http://127.0.0.1:{port}/v2/": {problem}'


async def test_a_peer_that_takes_no_bytes_is_given_up() -> None:
    taken = asyncio.Event()

    async def takes_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taken.wait()

    async def without_end() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    async with listening(takes_nothing) as port:
        async with Transport(Options(certificate_directories=(), silence_seconds=0.05)) as transport:
            with pytest.raises(ConnectionFailed, match="timeout"):
                await transport.send(Request("PATCH", URL(f"http://127.0.0.1:{port}/"), body=without_end, body_bytes=1 << 40), None)
        taken.set()


async def test_a_peer_that_takes_the_bytes_just_as_it_is_given_up_gets_no_more() -> None:
    """The limit has been reached, and whoever sends is about to hear of it: it can be put off no more."""

    class Reached:
        is_reached = False

        def expired(self) -> bool:
            return self.is_reached

        def reschedule(self, when: float | None) -> None:
            assert not self.is_reached

    async def two() -> AsyncIterator[bytes]:
        yield b"first"
        yield b"second"

    body, limit = _Body(two, silence_seconds=1.0), Reached()
    chunks = body.chunks(cast("asyncio.Timeout", limit))
    assert await anext(chunks) == b"first"
    limit.is_reached = True
    assert [chunk async for chunk in chunks] == []
    assert body.failure is None


async def test_a_registry_that_keeps_silent_at_first_is_given_up_soon(options: Options) -> None:
    async with listening(silent) as port:
        async with RegistryClient(replace(options, first_answer_seconds=0.05)) as client:
            repository = await client.repository(parse_reference(f"127.0.0.1:{port}/x"))
            with pytest.raises(Unreachable) as caught:
                await repository.resolve()
        problem = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        assert caught.value.message == f'Get "http://127.0.0.1:{port}/v2/": {problem}'
