"""Pushing, in every way that there is, and on where it broke."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest

from support.registry import PASSWORD, USERNAME, FakeRegistry
from teul.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest
from teul.oci.reference import parse_reference
from teul.registry.client.registry_client import RegistryClient
from teul.registry.client.repository import Repository
from teul.registry.client.uploads import BlobSource, UploadMode
from teul.registry.credentials import Credentials
from teul.registry.errors import AuthenticationFailed, BadAnswer, ConnectionFailed, ContentMismatch, Refused
from unit.registry.conftest import Pauses

NAME = "library/test"
LAYER = hashlib.shake_128(b"layer").digest((3 << 20) + 17)
DESCRIPTOR = Descriptor(digest=Digest.of(LAYER), size_bytes=len(LAYER))
MODES = list(UploadMode)


async def opened(client: RegistryClient, registry: FakeRegistry, name: str = NAME) -> Repository:
    return await client.repository(parse_reference(f"{registry.host}/{name}"), Credentials(USERNAME, PASSWORD), push=True)


def source_of(data: bytes, offsets: list[int] | None = None) -> BlobSource:
    async def source(offset: int) -> AsyncIterator[bytes]:
        if offsets is not None:
            offsets.append(offset)
        for position in range(offset, len(data), 100_000):
            yield data[position : position + 100_000]

    return source


@pytest.mark.parametrize("auth", ["", "basic", "token"])
@pytest.mark.parametrize("mode", MODES)
async def test_a_blob_goes_up(client: RegistryClient, registry: FakeRegistry, mode: UploadMode, auth: str) -> None:
    registry.behaviour.auth = auth
    repository = await opened(client, registry)
    await repository.upload_blob(DESCRIPTOR, source_of(LAYER), mode=mode, chunk_bytes=1 << 20)
    assert registry.blobs[NAME] == {str(DESCRIPTOR.digest): LAYER}
    sent = [(seen.method, seen.headers.get("Content-Length"), seen.headers.get("Content-Range")) for seen in registry.seen]
    expected = {
        UploadMode.STREAM: [("PATCH", str(len(LAYER)), None), ("PUT", "0", None)],
        UploadMode.MONOLITHIC: [("PUT", str(len(LAYER)), None)],
        UploadMode.CHUNKED: [
            ("PATCH", "1048576", "0-1048575"),
            ("PATCH", "1048576", "1048576-2097151"),
            ("PATCH", "1048576", "2097152-3145727"),
            ("PATCH", "17", "3145728-3145744"),
            ("PUT", "0", None),
        ],
    }
    assert [entry for entry in sent if entry[0] in {"PATCH", "PUT"}] == expected[mode]


@pytest.mark.parametrize("mode", MODES)
async def test_an_empty_blob_goes_up(client: RegistryClient, registry: FakeRegistry, mode: UploadMode) -> None:
    empty = Descriptor(digest=Digest.of(b""), size_bytes=0)
    await (await opened(client, registry)).upload_blob(empty, source_of(b""), mode=mode)
    assert registry.blobs[NAME] == {str(empty.digest): b""}


async def test_chunks_are_as_large_as_the_registry_wants_them(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.behaviour.chunk_min_length = 2 << 20
    repository = await opened(client, registry)
    await repository.upload_blob(DESCRIPTOR, source_of(LAYER), mode=UploadMode.CHUNKED, chunk_bytes=1000)
    assert len(registry.requests("PATCH")) == 2
    registry.behaviour.chunk_min_length = 1 << 40
    with pytest.raises(BadAnswer, match="wants chunks of 1099511627776 bytes"):
        await repository.upload_blob(DESCRIPTOR, source_of(LAYER), mode=UploadMode.CHUNKED)


@pytest.mark.parametrize("mode", MODES)
async def test_a_broken_upload_is_made_good(client: RegistryClient, registry: FakeRegistry, pauses: Pauses, mode: UploadMode) -> None:
    registry.behaviour.upload_cuts = 2
    offsets: list[int] = []
    repository = await opened(client, registry)
    await repository.upload_blob(DESCRIPTOR, source_of(LAYER, offsets), mode=mode, chunk_bytes=1 << 20)
    assert registry.blobs[NAME] == {str(DESCRIPTOR.digest): LAYER}
    assert len(pauses.seconds) == 2
    if mode is UploadMode.CHUNKED:
        assert len(registry.requests("POST")) == 1
        assert offsets[0] == 0 < offsets[1]
    else:
        assert offsets == [0, 0, 0]


@pytest.mark.parametrize("mode", MODES)
async def test_other_bytes_than_the_digests_are_refused_by_the_registry(
    client: RegistryClient, registry: FakeRegistry, mode: UploadMode
) -> None:
    with pytest.raises(Refused, match=r"^digest invalid: provided digest did not match uploaded content$"):
        await (await opened(client, registry)).upload_blob(DESCRIPTOR, source_of(LAYER[::-1]), mode=mode)
    assert registry.blobs == {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("data", [LAYER[:-1], LAYER + b"x"])
async def test_another_number_of_bytes_is_noticed_here(
    client: RegistryClient, registry: FakeRegistry, mode: UploadMode, data: bytes
) -> None:
    with pytest.raises(ContentMismatch, match=f"has not the {len(LAYER)} bytes"):
        await (await opened(client, registry)).upload_blob(DESCRIPTOR, source_of(data), mode=mode)
    assert registry.blobs == {}


@pytest.mark.parametrize("mode", MODES)
async def test_what_the_source_says_is_heard(client: RegistryClient, registry: FakeRegistry, pauses: Pauses, mode: UploadMode) -> None:
    async def broken(offset: int) -> AsyncIterator[bytes]:
        yield LAYER[:100]
        raise FileNotFoundError("the blob is gone")

    with pytest.raises(FileNotFoundError, match="the blob is gone"):
        await (await opened(client, registry)).upload_blob(DESCRIPTOR, broken, mode=mode)
    assert pauses.seconds == []


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("file:///tmp/x", "leads to a location that is not followed: file"),
        ("http://u:p@127.0.0.1/", "leads to a location that is not followed"),
        ("http://[", "leads to an invalid location"),
        ("/v2/library/test/blobs/uploads/unknown", "^blob upload unknown$"),
    ],
)
async def test_an_upload_is_not_led_astray(client: RegistryClient, registry: FakeRegistry, location: str, problem: str) -> None:
    registry.behaviour.upload_location = location
    with pytest.raises((BadAnswer, Refused), match=problem):
        await (await opened(client, registry)).upload_blob(DESCRIPTOR, source_of(LAYER))


async def test_an_upload_elsewhere_takes_no_credentials_along(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.behaviour.auth = "basic"
    async with FakeRegistry() as other:
        other._uploads["there"] = bytearray()
        registry.behaviour.upload_location = f"{other.url}/v2/{NAME}/blobs/uploads/there?_state=x"
        await (await opened(client, registry)).upload_blob(DESCRIPTOR, source_of(LAYER))
        assert other.blobs[NAME] == {str(DESCRIPTOR.digest): LAYER}
        assert not any("Authorization" in seen.headers for seen in other.seen)


async def test_a_blob_is_taken_from_another_repository(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.behaviour.auth = "token"
    stored = registry.add_blob("other/place", LAYER)
    repository = await opened(client, registry)
    other = parse_reference(f"{registry.host}/other/place")
    assert await repository.mount_blob(stored.digest, other)
    assert await repository.blob_exists(stored)
    assert registry.token_requests[0]["scope"] == [f"repository:{NAME}:pull,push", "repository:other/place:pull"]
    assert not await repository.mount_blob(stored.digest, parse_reference("registry.example/other/place")), "that is another registry"


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_refused_mount_is_no_mount(client: RegistryClient, registry: FakeRegistry, status: int) -> None:
    stored = registry.add_blob("other/place", LAYER)
    registry.behaviour.error = (status, "text/plain", b"not from there")
    repository = await opened(client, registry)
    assert not await repository.mount_blob(stored.digest, parse_reference(f"{registry.host}/other/place"))


async def test_a_registry_that_mounts_nothing_is_left_without_an_upload(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.behaviour.mounts = False
    stored = registry.add_blob("other/place", LAYER)
    repository = await opened(client, registry)
    assert not await repository.mount_blob(stored.digest, parse_reference(f"{registry.host}/other/place"))
    assert registry._uploads == {}


async def test_a_manifest_is_put_under_a_tag_or_its_digest(client: RegistryClient, registry: FakeRegistry) -> None:
    repository = await opened(client, registry)
    data = b'{"schemaVersion":2}'
    tagged = await repository.put_manifest("v1", OCI_MANIFEST, data)
    assert await repository.resolve("v1") == tagged
    index = await repository.put_manifest(Digest.of(b"{}"), OCI_INDEX, b"{}")
    assert await repository.resolve(index.digest) == index
    assert await repository.list_tags() == ["v1"]


@pytest.mark.parametrize("supports_referrers", [True, False])
async def test_referrers_are_found_by_the_api_or_by_a_tag(
    client: RegistryClient, registry: FakeRegistry, *, supports_referrers: bool
) -> None:
    registry.behaviour.supports_referrers = supports_referrers
    repository = await opened(client, registry)
    subject = await repository.put_manifest("v1", OCI_MANIFEST, b'{"schemaVersion":2}')
    assert await repository.referrers(subject.digest) == []
    texts = [
        f'{{"schemaVersion":2,"artifactType":"application/{kind}","subject":{{"digest":"{subject.digest}"}}}}'.encode() for kind in "ab"
    ]
    stored = [await repository.put_manifest(Digest.of(text), OCI_MANIFEST, text) for text in texts]
    if not supports_referrers:
        entries = ",".join(
            f'{{"mediaType":"{each.media_type}","digest":"{each.digest}","size":{each.size_bytes},"artifactType":"application/{kind}"}}'
            for each, kind in zip(stored, "ab", strict=True)
        )
        index = f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entries}]}}'.encode()
        await repository.put_manifest(str(subject.digest).replace(":", "-"), OCI_INDEX, index)
    found = await repository.referrers(subject.digest)
    assert [(each.digest, each.artifact_type) for each in found] == [
        (each.digest, f"application/{kind}") for each, kind in zip(stored, "ab", strict=True)
    ]
    assert await repository.referrers(subject.digest, "application/b") == found[1:]


async def test_a_push_without_a_password_is_told_without_the_request(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.behaviour.auth = "basic"
    repository = await client.repository(parse_reference(f"{registry.host}/{NAME}"), push=True)
    with pytest.raises(AuthenticationFailed, match=r"^no basic auth credentials$"):
        await repository.upload_blob(DESCRIPTOR, source_of(LAYER))
    with pytest.raises(AuthenticationFailed, match=r'^Put "http://.*/manifests/v1": no basic auth credentials$'):
        await repository.put_manifest("v1", OCI_MANIFEST, b"{}")


async def test_an_upload_to_a_registry_that_has_gone_is_told_without_the_request(client: RegistryClient, registry: FakeRegistry) -> None:
    repository = await opened(client, registry)
    assert not await repository.blob_exists(DESCRIPTOR)
    await registry.__aexit__(None, None, None)
    with pytest.raises(ConnectionFailed) as caught:
        await repository.upload_blob(DESCRIPTOR, source_of(LAYER))
    assert caught.value.message == f"dial tcp {registry.host}: connect: connection refused"
    await registry.__aenter__()


async def test_a_denied_push_is_told_in_the_registrys_words(client: RegistryClient, registry: FakeRegistry) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied","detail":[]}]}'
    registry.behaviour.error = (403, "application/json", body)
    repository = await opened(client, registry)
    assert not await repository.blob_exists(DESCRIPTOR), "the upload has the better text"
    with pytest.raises(Refused, match=r"^denied: requested access to the resource is denied$"):
        await repository.upload_blob(DESCRIPTOR, source_of(LAYER))
