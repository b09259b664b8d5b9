"""Pulling from a registry that behaves, and from one that lies."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import replace

import pytest

from support.registry import FakeRegistry
from teul.oci.descriptor import OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest
from teul.oci.reference import Reference, parse_reference
from teul.registry.client.registry_client import RegistryClient
from teul.registry.client.repository import Repository
from teul.registry.endpoints import Endpoint, Registries
from teul.registry.errors import BadAnswer, ConnectionFailed, ContentMismatch, NotInRegistry, Refused, RegistryError, Unreachable
from teul.registry.transport import Options
from unit.registry.conftest import Pauses

NAME = "library/test"
MANIFEST = b'{"schemaVersion":2,"config":{},"layers":[]}'
LAYER = hashlib.shake_128(b"layer").digest(3 << 20)


def reference(registry: FakeRegistry, tag: str = "latest") -> Reference:
    return parse_reference(f"{registry.host}/{NAME}:{tag}")


async def opened(client: RegistryClient, registry: FakeRegistry, tag: str = "latest") -> Repository:
    return await client.repository(reference(registry, tag))


async def read(repository: Repository, descriptor: Descriptor, *, offset: int = 0, verify: bool = True) -> bytes:
    async with repository.open_blob(descriptor, offset=offset, verify=verify) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_tag_is_resolved_without_fetching_it(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST, "latest")
    repository = await opened(client, registry)
    assert await repository.resolve() == stored
    assert registry.requests("GET", "/manifests/") == []
    assert await repository.fetch_manifest(stored) == MANIFEST


async def test_a_digest_is_resolved_to_itself(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST)
    assert await (await opened(client, registry)).resolve(stored.digest) == stored


@pytest.mark.parametrize("lack", ["supports_head", "hides_digest"])
async def test_a_registry_whose_head_says_too_little_is_asked_for_the_manifest(
    client: RegistryClient, registry: FakeRegistry, lack: str
) -> None:
    setattr(registry.behaviour, lack, lack == "hides_digest")
    stored = registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST, "latest")
    assert await (await opened(client, registry)).resolve() == stored
    assert len(registry.requests("GET", "/manifests/")) == 1


async def test_a_missing_manifest_is_told_as_docker_tells_it(client: RegistryClient, registry: FakeRegistry) -> None:
    with pytest.raises(NotInRegistry) as caught:
        await (await opened(client, registry, "nope")).resolve()
    assert caught.value.message == f"manifest for {registry.host}/{NAME}:nope not found: manifest unknown: manifest unknown"


async def test_a_manifest_of_another_digest_is_refused(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST, "latest")
    registry.behaviour.wrong_digest = True
    repository = await opened(client, registry)
    with pytest.raises(ContentMismatch, match=f"^manifest verification failed for digest {stored.digest}$"):
        await repository.fetch_manifest(stored)
    registry.behaviour.supports_head = False
    with pytest.raises(ContentMismatch):
        await repository.resolve()


async def test_a_manifest_of_another_size_is_refused(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST)
    wrong = Descriptor(media_type=stored.media_type, digest=stored.digest, size_bytes=stored.size_bytes + 1)
    with pytest.raises(ContentMismatch, match="has 43 bytes instead of 44"):
        await (await opened(client, registry)).fetch_manifest(wrong)


async def test_a_manifest_without_end_is_not_read_to_its_end(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_manifest(NAME, bytes(5 << 20), OCI_MANIFEST, "latest")
    registry.behaviour.supports_head = False
    repository = await opened(client, registry)
    with pytest.raises(BadAnswer, match="larger than the limit of 4194304 bytes"):
        await repository.resolve()
    with pytest.raises(BadAnswer, match="larger than the limit of 4194304 bytes"):
        await repository.fetch_manifest(stored)


async def test_a_blob_comes_in_large_chunks_and_is_verified(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, LAYER)
    async with (await opened(client, registry)).open_blob(stored) as stream:
        chunks = [chunk async for chunk in stream]
    assert b"".join(chunks) == LAYER
    assert all(len(chunk) >= 64 * 1024 for chunk in chunks[:-1])


async def test_an_empty_blob_asks_for_nothing(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, b"")
    assert await read(await opened(client, registry), stored) == b""


async def test_the_rest_of_a_blob_is_asked_for(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, LAYER)
    repository = await opened(client, registry)
    assert await read(repository, stored, offset=1 << 20, verify=False) == LAYER[1 << 20 :]
    assert registry.requests("GET", "/blobs/")[0].headers["Range"] == f"bytes={1 << 20}-{len(LAYER) - 1}"
    with pytest.raises(ValueError, match="cannot be verified"):
        repository.open_blob(stored, offset=1)


@pytest.mark.parametrize("ignores_range", [False, True])
async def test_a_broken_line_is_taken_up_where_it_broke(
    client: RegistryClient, registry: FakeRegistry, pauses: Pauses, *, ignores_range: bool
) -> None:
    stored = registry.add_blob(NAME, LAYER)
    registry.behaviour.ignores_range = ignores_range
    registry.behaviour.cuts = [1 << 20, 100_000, 1 << 20] if not ignores_range else [1 << 20, (1 << 20) + 100_000]
    cuts = len(registry.behaviour.cuts)
    assert await read(await opened(client, registry), stored) == LAYER
    asked = [seen.headers.get("Range", "bytes=0-") for seen in registry.requests("GET", "/blobs/")]
    assert len(asked) == cuts + 1
    assert asked[0] == "bytes=0-"
    assert asked == sorted(set(asked), key=lambda text: int(text[6:].split("-")[0])), "nothing is asked for twice"
    assert len(pauses.seconds) == cuts


async def test_a_line_that_breaks_again_and_again_is_given_up(client: RegistryClient, registry: FakeRegistry, pauses: Pauses) -> None:
    stored = registry.add_blob(NAME, LAYER)
    registry.behaviour.cuts = [1000] * 50
    with pytest.raises(ConnectionFailed, match=r"^unexpected EOF$"):
        await read(await opened(client, registry), stored)
    assert pauses.seconds == [0.5, 1.0, 2.0, 4.0]


async def test_a_body_that_ends_early_in_good_order_is_no_whole_blob(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, LAYER[:100_000])
    registry.behaviour.ends_early = True
    registry.behaviour.ignores_range = True
    with pytest.raises(ConnectionFailed, match=r"^unexpected EOF$"):
        await read(await opened(client, registry), stored)


@pytest.mark.parametrize("hides_length", [False, True])
async def test_a_blob_of_another_digest_is_refused_at_its_end(
    client: RegistryClient, registry: FakeRegistry, *, hides_length: bool
) -> None:
    stored = registry.add_blob(NAME, LAYER)
    registry.behaviour.wrong_digest = True
    registry.behaviour.hides_length = hides_length
    repository = await opened(client, registry)
    with pytest.raises(ContentMismatch, match=f"^filesystem layer verification failed for digest {stored.digest}$"):
        await read(repository, stored)
    assert len(await read(repository, stored, verify=False)) == len(LAYER), "whoever verifies by himself is let to"


async def test_a_blob_that_declares_another_size_is_refused_at_once(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, LAYER)
    registry.behaviour.wrong_size = 1
    got = []
    with pytest.raises(ContentMismatch):
        async with (await opened(client, registry)).open_blob(stored) as chunks:
            got += [chunk async for chunk in chunks]
    assert got == []


@pytest.mark.parametrize("verify", [True, False])
async def test_an_endless_body_is_refused_after_the_size(client: RegistryClient, registry: FakeRegistry, *, verify: bool) -> None:
    stored = registry.add_blob(NAME, LAYER)
    registry.behaviour.endless = True
    repository = await opened(client, registry)
    got: list[bytes] = []

    async def take() -> None:
        async with repository.open_blob(stored, verify=verify) as chunks:
            async for chunk in chunks:
                got.append(chunk)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(ContentMismatch):
        await take()
    assert sum(map(len, got)) <= len(LAYER)


async def test_a_reader_may_leave_in_the_middle(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, LAYER)
    repository = await opened(client, registry)
    async with repository.open_blob(stored) as chunks:
        async for _ in chunks:
            break
    assert await read(repository, stored) == LAYER


async def test_a_config_is_verified_too(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, b'{"os":"linux"}')
    repository = await opened(client, registry)
    assert await repository.fetch_config(stored) == b'{"os":"linux"}'
    registry.behaviour.wrong_digest = True
    with pytest.raises(
        ContentMismatch, match=f"^error pulling image configuration: image config verification failed for digest {stored.digest}$"
    ):
        await repository.fetch_config(stored)
    registry.behaviour.refusals = 5
    problem = (
        "error pulling image configuration: download failed after attempts=6: received unexpected HTTP status: 503 Service Unavailable"
    )
    with pytest.raises(RegistryError, match=f"^{problem}$"):
        await repository.fetch_config(stored)
    with pytest.raises(RegistryError, match="larger than the limit"):
        await repository.fetch_config(Descriptor(digest=stored.digest, size_bytes=5 << 20))


async def test_an_endless_config_is_refused(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, b"{}")
    registry.behaviour.endless = True
    with pytest.raises(ContentMismatch):
        await (await opened(client, registry)).fetch_config(stored)


async def test_a_missing_blob_is_told(client: RegistryClient, registry: FakeRegistry) -> None:
    missing = Descriptor(digest=Digest.of(b"missing"), size_bytes=7)
    repository = await opened(client, registry)
    assert not await repository.blob_exists(missing)
    with pytest.raises(Refused, match=r"^unknown blob$"):
        await read(repository, missing)
    with pytest.raises(RegistryError, match=r"^error pulling image configuration: download failed after attempts=1: unknown blob$"):
        await repository.fetch_config(missing)
    assert await repository.blob_exists(registry.add_blob(NAME, b"there"))


async def test_patience_is_shown_where_the_registry_asks_for_it(client: RegistryClient, registry: FakeRegistry, pauses: Pauses) -> None:
    stored = registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST)
    registry.behaviour.refusals, registry.behaviour.refusal_status, registry.behaviour.retry_after = 2, 429, "7"
    assert await (await opened(client, registry)).fetch_manifest(stored) == MANIFEST
    assert pauses.seconds == [7.0, 7.0]


@pytest.mark.parametrize("retry_after", [None, "86400"])
async def test_a_limit_that_lasts_is_told_at_once(
    client: RegistryClient, registry: FakeRegistry, pauses: Pauses, retry_after: str | None
) -> None:
    stored = registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST)
    registry.behaviour.refusals, registry.behaviour.refusal_status, registry.behaviour.retry_after = 9, 429, retry_after
    with pytest.raises(Refused, match=r"^toomanyrequests: slow down$"):
        await (await opened(client, registry)).fetch_manifest(stored)
    assert pauses.seconds == []


async def test_an_overloaded_registry_is_asked_five_times(client: RegistryClient, registry: FakeRegistry, pauses: Pauses) -> None:
    stored = registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST)
    registry.behaviour.refusals = 5
    repository = await opened(client, registry)
    with pytest.raises(Refused, match=r"^received unexpected HTTP status: 503 Service Unavailable$"):
        await repository.fetch_manifest(stored)
    assert pauses.seconds == [0.5, 1.0, 2.0, 4.0]
    assert await repository.fetch_manifest(stored) == MANIFEST


async def test_a_loop_of_redirects_ends(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, LAYER)
    registry.behaviour.redirect_loop = True
    with pytest.raises(BadAnswer, match=r'^Get "http://.*": stopped after 10 redirects$'):
        await read(await opened(client, registry), stored)


async def test_a_blob_may_lie_elsewhere(client: RegistryClient, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, LAYER)
    async with FakeRegistry() as store:
        store.add_blob(NAME, LAYER)
        registry.behaviour.redirect_blobs_to = store.url
        assert await read(await opened(client, registry), stored) == LAYER
        assert [seen.query for seen in store.seen] == ["signature=x%2Fy"], "a signed URL keeps its spelling"


async def test_nobody_at_the_address_is_told_as_go_tells_it(client: RegistryClient, registry: FakeRegistry) -> None:
    gone = reference(registry)
    await registry.__aexit__(None, None, None)
    with pytest.raises(Unreachable) as caught:
        await (await client.repository(gone)).resolve()
    expected = f'Get "http://{registry.host}/v2/": dial tcp {registry.host}: connect: connection refused'
    assert caught.value.message == expected
    await registry.__aenter__()


async def test_tags_come_page_by_page(client: RegistryClient, registry: FakeRegistry) -> None:
    tags = [f"v{number:03}" for number in range(25)]
    for tag in tags:
        registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST, tag)
    registry.behaviour.page_items = 10
    assert await (await opened(client, registry)).list_tags() == tags
    assert len(registry.requests("GET", "/tags/list")) == 3


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("/v2/library/test/tags/list?n=1000", "comes back to its beginning"),
        ("http://127.0.0.2:1/v2/", "goes on at another host: 127.0.0.2:1"),
        ("file:///etc/passwd", "leads to a location that is not followed: file"),
        ("gopher://127.0.0.1/", "leads to a location that is not followed: gopher"),
        ("http://name:secret@127.0.0.1/", "leads to a location that is not followed: http"),
        ("http://[::1", "leads to an invalid location"),
    ],
)
async def test_a_next_page_that_leads_astray_is_not_followed(
    client: RegistryClient, registry: FakeRegistry, link: str, problem: str
) -> None:
    registry.add_manifest(NAME, MANIFEST, OCI_MANIFEST, "one")
    registry.behaviour.next_link = link
    with pytest.raises(BadAnswer, match=problem):
        await (await opened(client, registry)).list_tags()


async def test_the_tags_of_no_repository(client: RegistryClient, registry: FakeRegistry) -> None:
    with pytest.raises(NotInRegistry) as caught:
        await (await opened(client, registry)).list_tags()
    name = f"{registry.host}/{NAME}"
    assert caught.value.message == f"repository {name} not found: name unknown: repository name not known to registry"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((403, "application/json", b'{"errors":[{"code":"DENIED","message":"no","detail":1}]}'),
         "pull access denied for HOST/library/test, repository does not exist or may require 'docker login': denied: no"),
        ((403, "text/html", b"<b>no</b>"),
         "pull access denied for HOST/library/test, repository does not exist or may require 'docker login': denied: <b>no</b>"),
        ((404, "application/json", b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'), "manifest unknown"),
        ((404, "application/json", b"{}"),
         'error parsing HTTP 404 response body: no error details found in HTTP response body: "{}"'),
        ((404, "application/json", b"<html>"),
         "error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: \"<html>\""),
        ((404, "application/json", b"[1]"),
         "error parsing HTTP 404 response body: json: cannot unmarshal array into Go value of type struct { Errors []errcode.Error }: \"[1]\""),
        ((404, "application/json", b"null"),
         'error parsing HTTP 404 response body: no error details found in HTTP response body: "null"'),
        ((404, "", b"gone\x1b[2J"), "unknown: gone[2J"),
        ((418, "application/json", b'{"details":"short and stout"}'), "unknown: short and stout"),
        ((404, "application/json", b"\xff" * 100_000), "error parsing HTTP 404 response body: "),
        ((404, "application/json", b"[" * 60_000), "error parsing HTTP 404 response body: "),
        ((404, "application/json", b'{"errors":[1,{"code":[],"message":{}}]}'), "unknown"),
    ],
)  # fmt: skip
async def test_a_refusal_is_told_in_dockers_words(
    client: RegistryClient, registry: FakeRegistry, answer: tuple[int, str, bytes], message: str
) -> None:
    registry.behaviour.error = answer
    with pytest.raises((Refused, NotInRegistry)) as caught:
        await (await opened(client, registry)).resolve()
    assert caught.value.message.startswith(message.replace("HOST", registry.host))
    assert len(caught.value.message) < 10_000


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_b.c/d", 'Get "https:///v2/": http: no Host in request URL'),
        ("registry.example:99999/d", 'Get "https://registry.example:99999/v2/": dial tcp: address 99999: invalid port'),
        (f"{'a' * 70}.example/d", f'Get "https://{"a" * 70}.example/v2/": dial tcp: lookup {"a" * 70}.example: no such host'),
        ("1.2.3.4.5/d", 'Get "https://1.2.3.4.5/v2/": dial tcp: lookup 1.2.3.4.5: no such host'),
    ],
)
async def test_a_domain_that_is_no_host_is_told_as_go_tells_it(client: RegistryClient, name: str, message: str) -> None:
    async def resolved() -> None:
        await (await client.repository(parse_reference(name))).resolve()

    with pytest.raises(Unreachable) as caught:
        await resolved()
    assert caught.value.message == message


async def test_a_name_of_another_alphabet_is_looked_up(client: RegistryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    repository = await client.repository(parse_reference("xn--a.example/d"))
    with pytest.raises(Unreachable, match=r"lookup xn--a\.example: no such host$"):
        await repository.resolve()


async def test_what_breaks_off_at_a_mirror_goes_on_at_the_next_endpoint(options: Options, registry: FakeRegistry) -> None:
    stored = registry.add_blob(NAME, LAYER)
    async with FakeRegistry() as mirror:
        mirror.add_blob(NAME, LAYER)
        mirror.behaviour.cuts = [100_000] * 50
        mirrors = tuple(Endpoint("http", each.host, is_mirror=True) for each in (mirror, registry))
        async with RegistryClient(replace(options, registries=Registries(mirrors=mirrors))) as client:
            assert await read(await client.repository(parse_reference(NAME)), stored) == LAYER
        assert len(mirror.requests("GET", "/blobs/")) == 5
        (asked,) = registry.requests("GET", "/blobs/")
        assert asked.headers["Range"] == f"bytes=500000-{len(LAYER) - 1}"
