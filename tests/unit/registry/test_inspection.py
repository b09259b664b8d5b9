"""Manifests as the command line looks at them: by tag and digest, in indexes, and what is not believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support import images
from support.registry import PASSWORD, USERNAME, FakeRegistry, stock
from teul.errors import TeulError
from teul.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.oci.reference import parse_reference
from teul.registry.client.inspection import Found, inspect
from teul.registry.errors import NotInRegistry

IMAGE = images.Image((), (b"layer",), {})


async def look(registry: FakeRegistry, name: str, *, insecure: bool = True, **account: str) -> Found:
    reference = parse_reference(f"{registry.host}/{name}").with_default_tag()
    return await inspect(reference, json.dumps(account).encode(), insecure=insecure, environment={})


async def failure(registry: FakeRegistry, name: str, **options: Any) -> str:
    with pytest.raises(TeulError) as caught:
        await look(registry, name, **options)
    return caught.value.message.replace(registry.host, "HOST")


async def test_a_manifest_by_its_tag_and_by_its_digest(registry: FakeRegistry) -> None:
    stock(registry, IMAGE, "box")
    found = await look(registry, "box:1")
    [manifest] = found.manifests
    assert (found.is_index, manifest.is_oci, manifest.platform) == (False, True, Platform(os="linux", architecture="amd64"))
    assert manifest.reference.canonical == f"{registry.host}/box:1"
    assert Digest.of(manifest.data) == manifest.descriptor.digest
    again = await look(registry, f"box@{manifest.descriptor.digest}")
    assert again.manifests[0].data == manifest.data


async def test_an_index_leads_to_all_its_manifests(registry: FakeRegistry) -> None:
    """Their platforms are those of the index, and their names have the tag as well."""
    stock(registry, IMAGE, "box")
    [manifest] = (await look(registry, "box:1")).manifests
    child = {"mediaType": OCI_MANIFEST, "digest": str(manifest.descriptor.digest), "size": manifest.descriptor.size_bytes}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child | {"platform": {"os": "x", "architecture": "y"}}, child]}
    registry.add_manifest("box", json.dumps(index).encode(), OCI_INDEX, "both")
    found = await look(registry, "box:both")
    assert found.is_index
    assert [it.platform for it in found.manifests] == [Platform(os="x", architecture="y"), Platform()]
    assert found.manifests[0].reference.canonical == f"{registry.host}/box:both@{manifest.descriptor.digest}"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"manifests": [], "config": {}}, "index: expected index but found manifest"),
        ({"manifests": [], "layers": []}, "index: expected index but found manifest"),
    ],
)
async def test_no_document_is_two_things(registry: FakeRegistry, document: dict[str, Any], message: str) -> None:
    stock(registry, IMAGE, "box")
    registry.add_manifest("box", json.dumps({"schemaVersion": 2, **document}).encode(), OCI_INDEX, "odd")
    assert await failure(registry, "box:odd") == message


async def test_an_index_in_an_index(registry: FakeRegistry) -> None:
    stock(registry, IMAGE, "box")
    inner = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    registry.add_manifest("box", inner, OCI_INDEX, "inner")
    child = {"mediaType": OCI_INDEX, "digest": str(Digest.of(inner)), "size": len(inner)}
    registry.add_manifest("box", json.dumps({"schemaVersion": 2, "manifests": [child]}).encode(), OCI_INDEX, "outer")
    assert await failure(registry, "box:outer") == "unsupported manifest type: *manifestlist.DeserializedManifestList"


async def test_a_config_that_is_another(registry: FakeRegistry) -> None:
    config = registry.add_blob("box", b"{}", OCI_CONFIG)
    described = {"mediaType": config.media_type, "digest": str(config.digest), "size": config.size_bytes}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": []}
    registry.add_manifest("box", json.dumps(manifest).encode(), OCI_MANIFEST, "1")
    registry.blobs["box"][str(config.digest)] = b"[]"
    assert await failure(registry, "box:1") == f"image config verification failed for digest {config.digest}"


async def test_a_digest_that_the_tag_does_not_have(registry: FakeRegistry) -> None:
    stock(registry, IMAGE, "box")
    digest = Digest.of(b"another")
    assert await failure(registry, f"box:1@{digest}") == f"manifest verification failed for digest {digest}"


async def test_what_is_not_there(registry: FakeRegistry) -> None:
    assert await failure(registry, "box:1") == "no such manifest: HOST/box:1"
    stock(registry, IMAGE, "box")
    assert await failure(registry, "box:1", insecure=False) == "no such manifest: HOST/box:1", "it is spoken to in the clear"


async def test_trouble_that_is_told(registry: FakeRegistry) -> None:
    """Only what may mean that there is nothing of the name counts as that."""
    stock(registry, IMAGE, "box")
    registry.behaviour.error = (500, "text/plain", b"")
    assert await failure(registry, "box:1") == "received unexpected HTTP status: 500 Internal Server Error"
    registry.behaviour.error = (403, "application/json", b'{"errors": [{"code": "DENIED", "message": "no", "detail": 1}]}')
    assert await failure(registry, "box:1") == "denied: no"
    registry.behaviour.error = (404, "text/plain", b"")
    with pytest.raises(TeulError):
        await look(registry, "box:1")


async def test_the_users_password(registry: FakeRegistry) -> None:
    stock(registry, IMAGE, "box")
    registry.behaviour.auth = "basic"
    assert len((await look(registry, "box:1", username=USERNAME, password=PASSWORD)).manifests) == 1
    with pytest.raises(NotInRegistry):
        await look(registry, "box:1", username=USERNAME, password="wrong")


async def test_no_registry() -> None:
    with pytest.raises(TeulError, match=r"failed to configure transport: error pinging v2 registry: Get .*: connect: connection refused"):
        await inspect(parse_reference("127.0.0.1:1/x:1"), b"{}", insecure=True, environment={})
