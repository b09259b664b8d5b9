"""Searching registries: what is asked, with which credentials, and what is made of the answers."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import replace

import pytest
from yarl import URL

from support.registry import IDENTITY, PASSWORD, USERNAME, FakeRegistry
from teul.registry.client.registry_client import RegistryClient
from teul.registry.client.searches import SearchResult
from teul.registry.credentials import ANONYMOUS, Credentials
from teul.registry.endpoints import INDEX, Registries
from teul.registry.errors import BadAnswer, InvalidRegistryEndpoint, RegistryError
from teul.registry.transport import Options, Request, Transport

BUSY = {"name": "busybox", "description": "small", "star_count": 7, "is_official": True, "is_automated": True}


@pytest.fixture(autouse=True)
def stocked(registry: FakeRegistry) -> None:
    registry.repositories = [BUSY, {"name": "busy/bee", "description": None}, {"name": "other"}]


async def test_what_is_found_is_told_and_nothing_is_automated(client: RegistryClient, registry: FakeRegistry) -> None:
    found = await client.search(registry.host, "busy", limit=25)
    assert found == [SearchResult(7, True, "busybox", False, "small"), SearchResult(0, False, "busy/bee", False, "")]
    assert [(seen.path, seen.query) for seen in registry.seen] == [("/v1/_ping", ""), ("/v1/search", "q=busy&n=25")]
    assert "Authorization" not in registry.seen[-1].headers


async def test_the_limit_and_the_term_go_out_as_they_are(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.repositories = [{"name": f"a b&c=ü {number}"} for number in range(3)]
    assert len(await client.search(registry.host, "a b&c=ü", limit=2)) == 2


async def test_a_name_and_a_password_are_shown_unasked(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.behaviour.auth = "basic"
    assert len(await client.search(registry.host, "busy", Credentials(USERNAME, PASSWORD), limit=25)) == 2
    shown = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    assert registry.seen[-1].headers["Authorization"] == f"Basic {shown}"
    with pytest.raises(RegistryError, match=r"^Unexpected status code 401$"):
        await client.search(registry.host, "busy", ANONYMOUS, limit=25)


async def test_an_identity_token_is_changed_for_one_that_is_good_for_searching(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.behaviour.auth = "token"
    found = await client.search(registry.host, "busy", Credentials(USERNAME, identity_token=IDENTITY), limit=25)
    assert len(found) == 2
    assert [asked["scope"] for asked in registry.token_requests] == [["registry:catalog:search"]]


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_a_refusal_is_told_by_its_status(client: RegistryClient, registry: FakeRegistry, status: int) -> None:
    registry.behaviour.error = (status, "text/plain", b"go away")
    with pytest.raises(RegistryError, match=f"^Unexpected status code {status}$"):
        await client.search(registry.host, "busy", limit=25)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"null", []),
        (b"{}", []),
        (b'{"results": null}', []),
        (b'{"results": [{}]}', [SearchResult()]),
        (b'{"results": [{"name": null, "star_count": null, "is_official": null}], "more": 1}', [SearchResult()]),
    ],
)
async def test_what_is_left_out_is_empty(client: RegistryClient, registry: FakeRegistry, body: bytes, found: list[SearchResult]) -> None:
    registry.behaviour.search_body = body
    assert await client.search(registry.host, "busy", limit=25) == found


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"results": [1]}', b'{"results": [{"name": 1}]}', b'{"results":' + b"[" * 5000, b"\xff"]
)
async def test_an_answer_that_cannot_be_read_is_an_error(client: RegistryClient, registry: FakeRegistry, body: bytes) -> None:
    registry.behaviour.search_body = body
    with pytest.raises(BadAnswer, match=r"^error decoding registry search results: "):
        await client.search(registry.host, "busy", limit=25)


async def test_an_answer_has_an_end(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.behaviour.search_body = b" " * (5 << 20)
    with pytest.raises(BadAnswer, match=r"^the answer to a search is larger than the limit of 4194304 bytes$"):
        await client.search(registry.host, "busy", limit=25)


async def test_nobody_there_is_told_of_both_attempts(client: RegistryClient) -> None:
    with pytest.raises(InvalidRegistryEndpoint) as caught:
        await client.search("127.0.0.1:1", "busy", limit=25)
    problem = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert caught.value.message == (
        'invalid registry endpoint "http://127.0.0.1:1/v1/". '
        f'HTTPS attempt: Get "https://127.0.0.1:1/v1/_ping": {problem}. HTTP attempt: Get "http://127.0.0.1:1/v1/_ping": {problem}'
    )


async def test_a_registry_that_must_be_secure_is_not_asked_in_the_clear(options: Options, registry: FakeRegistry) -> None:
    host = registry.host
    async with RegistryClient(replace(options, registries=Registries(insecure_networks=()))) as client:
        with pytest.raises(InvalidRegistryEndpoint) as caught:
            await client.search(host, "busy", limit=25)
    assert caught.value.message == (
        f'invalid registry endpoint https://{host}/v1/: Get "https://{host}/v1/_ping": http: server gave HTTP response to HTTPS client. '
        "If this private registry supports only HTTP or HTTPS with an unknown CA certificate, please add "
        f"`--insecure-registry {host}` to the daemon's arguments. In the case of HTTPS, if you have access to the registry's CA "
        f"certificate, no need for the flag; simply place the CA certificate at /etc/docker/certs.d/{host}/ca.crt"
    )
    assert registry.seen == []


async def test_who_does_not_answer_is_given_up(options: Options) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with RegistryClient(replace(options, first_answer_seconds=0.05)) as client:
        with pytest.raises(InvalidRegistryEndpoint, match="context deadline exceeded"):
            await client.search(host, "busy", limit=25)
    server.close()
    for writer in connections:
        writer.close()
    await server.wait_closed()


@pytest.mark.parametrize("host", ["user:secret@127.0.0.1", "127.0.0.1:99999", "a.b?c", "a b.c", "[::1", ".", "127.0.0.1#"])
async def test_what_is_no_host_is_not_asked(client: RegistryClient, host: str) -> None:
    with pytest.raises(InvalidRegistryEndpoint, match=r"^parse \"https://.*\": invalid host$"):
        await client.search(host, "busy", limit=25)


async def test_docker_hub_is_its_index_and_taken_to_be_there(
    monkeypatch: pytest.MonkeyPatch, options: Options, registry: FakeRegistry
) -> None:
    """As dockerd, which neither asks the index whether it is there nor looks for it in the clear."""
    asked: list[URL] = []
    send = Transport.send

    async def elsewhere(self: Transport, request: Request, context: ssl.SSLContext | None) -> object:
        asked.append(request.url)
        return await send(self, replace(request, url=URL(f"http://{registry.host}{request.url.raw_path_qs}", encoded=True)), context)

    monkeypatch.setattr(Transport, "send", elsewhere)
    async with RegistryClient(options) as client:
        assert [found.name for found in await client.search("docker.io", "busybox", limit=3)] == ["busybox"]
    assert [str(url) for url in asked] == [f"https://{INDEX.host}/v1/search?q=busybox&n=3"]
