"""The client against the tests' registry and Debian's docker-registry: where the two differ, the tests' own is wrong."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from contract.registry.conftest import GOOD, REAL, Place
from contract.witness import Witness
from support.registry import FakeRegistry
from teul.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import Index, Manifest, encode_document
from teul.registry.client.repository import Repository
from teul.registry.client.uploads import BlobSource, UploadMode
from teul.registry.credentials import Credentials
from teul.registry.errors import AuthenticationFailed, LoginFailed, LoginRefused, NotInRegistry, Refused, RegistryError

LAYER = hashlib.shake_128(b"layer").digest((5 << 20) + 3)
CONFIG = b'{"architecture":"amd64","os":"linux"}'


def descriptor(data: bytes, media_type: str = OCI_LAYER) -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest.of(data), size_bytes=len(data))


def source_of(data: bytes) -> BlobSource:
    async def source(offset: int) -> AsyncIterator[bytes]:
        for position in range(offset, len(data), 1 << 18):
            yield data[position : position + (1 << 18)]

    return source


async def read(repository: Repository, blob: Descriptor, *, offset: int = 0) -> bytes:
    async with repository.open_blob(blob, offset=offset, verify=not offset) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def pushed(repository: Repository, tag: str = "latest") -> Descriptor:
    """An image of one layer."""
    await repository.upload_blob(descriptor(LAYER), source_of(LAYER))
    await repository.upload_blob(descriptor(CONFIG), source_of(CONFIG))
    manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=descriptor(CONFIG, OCI_CONFIG), layers=[descriptor(LAYER)])
    return await repository.put_manifest(tag, OCI_MANIFEST, encode_document(manifest))


async def test_what_was_pushed_is_pulled(place: Place) -> None:
    reference = place.reference(tag="v1")
    image = await pushed(await place.repository(reference), "v1")
    pull = await place.repository(reference, push=False)
    assert await pull.resolve() == image
    assert await pull.resolve(image.digest) == image
    assert Digest.of(await pull.fetch_manifest(image)) == image.digest
    assert await pull.fetch_config(descriptor(CONFIG)) == CONFIG
    assert await read(pull, descriptor(LAYER)) == LAYER
    assert await read(pull, descriptor(LAYER), offset=1 << 20) == LAYER[1 << 20 :]


@pytest.mark.parametrize("mode", list(UploadMode))
async def test_a_blob_goes_up_in_every_way(place: Place, mode: UploadMode) -> None:
    repository = await place.repository(place.reference())
    for data in (LAYER, b"x", b""):
        await repository.upload_blob(descriptor(data), source_of(data), mode=mode, chunk_bytes=2 << 20)
        assert await repository.blob_exists(descriptor(data))
        assert await read(repository, descriptor(data)) == data


@pytest.mark.parametrize("mode", list(UploadMode))
async def test_a_blob_of_another_digest_is_refused(place: Place, mode: UploadMode) -> None:
    repository = await place.repository(place.reference())
    wrong = replace_digest(descriptor(LAYER))
    with pytest.raises(Refused) as caught:
        await repository.upload_blob(wrong, source_of(LAYER), mode=mode)
    assert caught.value.message == "digest invalid: provided digest did not match uploaded content"
    assert not await repository.blob_exists(wrong)


def replace_digest(blob: Descriptor) -> Descriptor:
    return Descriptor(digest=Digest.of(b"something else"), size_bytes=blob.size_bytes)


async def test_an_index_is_pushed_and_pulled(place: Place) -> None:
    repository = await place.repository(place.reference())
    image = await pushed(repository, "image")
    data = encode_document(Index(schema_version=2, media_type=OCI_INDEX, manifests=[image]))
    await repository.put_manifest("latest", OCI_INDEX, data)
    index = await repository.resolve()
    assert index == descriptor(data, OCI_INDEX)
    assert await repository.fetch_manifest(index) == data


async def test_a_layer_is_mounted_from_another_repository(place: Place) -> None:
    first, second = place.reference(), place.reference()
    await pushed(await place.repository(first))
    repository = await place.repository(second)
    assert await repository.mount_blob(Digest.of(LAYER), first)
    assert await read(repository, descriptor(LAYER)) == LAYER
    assert not await repository.mount_blob(Digest.of(b"missing"), first)


async def test_a_missing_tag_is_told_as_docker_tells_it(place: Place) -> None:
    reference = place.reference()
    await pushed(await place.repository(reference))
    missing = replace(reference, tag="missing")
    with pytest.raises(NotInRegistry) as caught:
        await (await place.repository(missing, push=False)).resolve()
    assert caught.value.message == f"manifest for {missing.familiar} not found: manifest unknown: manifest unknown"


async def test_tags_are_listed(place: Place) -> None:
    reference = place.reference()
    repository = await place.repository(reference)
    for tag in ("b", "a", "c"):
        await pushed(repository, tag)
    assert sorted(await repository.list_tags()) == ["a", "b", "c"]
    nothing = await place.repository(place.reference(), push=False)
    with pytest.raises(NotInRegistry, match=r"^repository .* not found: name unknown: repository name not known to registry$"):
        await nothing.list_tags()


async def test_referrers_are_found(place: Place) -> None:
    """docker-registry knows no referrers, so its are found by a tag."""
    repository = await place.repository(place.reference())
    image = await pushed(repository)
    assert await repository.referrers(image.digest) == []
    if place.fake is not None:
        place.fake.behaviour.supports_referrers = False
    signature = Descriptor(media_type=OCI_MANIFEST, digest=image.digest, size_bytes=image.size_bytes, artifact_type="application/x")
    index = encode_document(Index(schema_version=2, media_type=OCI_INDEX, manifests=[signature]))
    await repository.put_manifest(str(image.digest).replace(":", "-"), OCI_INDEX, index)
    assert await repository.referrers(image.digest) == [signature]
    assert await repository.referrers(image.digest, "application/x") == [signature]
    assert await repository.referrers(image.digest, "application/y") == []


async def test_a_login_tells_good_credentials_from_bad_ones(place: Place) -> None:
    assert await place.client.login(replace(GOOD, server_address=place.host)) == ""
    if not place.auth:
        return
    with pytest.raises(LoginFailed if place.auth == "token" else LoginRefused) as caught:
        await place.client.login(Credentials(GOOD.username, "wrong", server_address=place.host))
    expected = {
        "basic": f"login attempt to http://{place.host}/v2/ failed with status: 401 Unauthorized",
        "token": f'Get "http://{place.host}/v2/": unauthorized: incorrect username or password',
    }
    assert caught.value.message == expected[place.auth]


async def test_a_push_without_credentials_is_refused(place: Place) -> None:
    reference = place.reference()
    repository = await place.repository(reference, credentials=Credentials())
    if not place.auth:
        await pushed(repository)
        return
    with pytest.raises(RegistryError) as caught:
        await pushed(repository)
    if place.auth == "basic":
        assert isinstance(caught.value, AuthenticationFailed)
        assert caught.value.message == "no basic auth credentials"
    else:
        assert caught.value.message == "denied: requested access to the resource is denied"


@asynccontextmanager
async def cutting(host: str, after_bytes: int) -> AsyncIterator[str]:
    """A way to `host` on which two connections are cut off after so many bytes, at an address of its own."""
    name, port = host.split(":")
    ways: list[asyncio.Task[None]] = []
    rest = [after_bytes, after_bytes]

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cuts: bool) -> None:
        passed = 0
        while data := await reader.read(1 << 16):
            passed += len(data)
            if cuts and rest and passed > rest[0]:
                rest.pop(0)
                writer.write(data[: len(data) // 2])
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    async def way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ways.append(task)
        there, back = await asyncio.open_connection(name, int(port))
        try:
            await asyncio.gather(pass_on(reader, back, cuts=False), pass_on(there, writer, cuts=True), return_exceptions=True)
        finally:
            for each in (writer, back):
                each.transport.abort()
                await asyncio.gather(each.wait_closed(), return_exceptions=True)

    async with await asyncio.start_server(way, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for each in ways:
            each.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    assert not rest, "nothing was cut"


@pytest.mark.parametrize("place", ["fake", pytest.param("docker-registry", marks=REAL)], indirect=True)
async def test_a_pull_survives_broken_lines(place: Place) -> None:
    reference = place.reference()
    await pushed(await place.repository(reference))
    async with cutting(place.host, 1 << 20) as host:
        repository = await place.repository(replace(reference, domain=host), push=False)
        assert await read(repository, descriptor(LAYER)) == LAYER


def test_all_of_the_fake_was_asked_for(whole_suite: Witness, fakes: list[FakeRegistry]) -> None:
    """What no test here asks of the tests' registry is not held to the real one."""
    asked = {(seen.method, re.sub(r"/v2/test/[0-9a-f]+|[^/]*[0-9a-f]{12}[^/]*$", "", seen.path)) for fake in fakes for seen in fake.seen}
    for method in ("GET", "HEAD", "PUT"):
        assert any(each == method and path.startswith("/manifests/") for each, path in asked), method
    assert {("GET", "/blobs/"), ("HEAD", "/blobs/"), ("POST", "/blobs/uploads/"), ("GET", "/tags/list"), ("GET", "/referrers/")} <= asked
    assert {("PATCH", "/blobs/uploads/"), ("PUT", "/blobs/uploads/"), ("DELETE", "/blobs/uploads/"), ("GET", "/token")} <= asked
