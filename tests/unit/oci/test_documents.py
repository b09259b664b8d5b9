"""Documents that somebody else wrote: read leniently where Go is lenient, refused with our own error otherwise."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.oci.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, layer_media_type
from teul.oci.digest import Digest
from teul.oci.documents import (
    MAX_DOCUMENT_BYTES,
    InvalidDocument,
    decode_index,
    decode_manifest,
    decode_saved_images,
    encode_document,
    encode_index,
    encode_manifest,
    is_index,
)

DIGEST = Digest.of(b"config")
DESCRIPTOR = {"mediaType": OCI_CONFIG, "digest": str(DIGEST), "size": 6}


def manifest_bytes(**members: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": DESCRIPTOR, "layers": [], **members}).encode()


def test_a_manifest_is_read_and_what_it_does_not_know_is_passed_over() -> None:
    manifest = decode_manifest(manifest_bytes(layers=[{**DESCRIPTOR, "platform": None, "x": 1}], subject=None, unheard_of={"a": [1]}))
    assert manifest.config == Descriptor(media_type=OCI_CONFIG, digest=DIGEST, size_bytes=6)
    assert manifest.layers[0].digest == DIGEST


def test_members_are_known_by_any_case_of_letters_and_the_last_of_a_name_wins() -> None:
    """docker: encoding/json, and so what an image of somebody else's making says means the same here."""
    other = Digest.of(b"other")
    text = json.dumps({"SCHEMAVERSION": 2, "Config": {**DESCRIPTOR, "Size": 7, "DIGEST": str(other)}, "LAYERS": [], "mediatype": "x"})
    manifest = decode_manifest(text.encode())
    assert manifest.config == Descriptor(media_type=OCI_CONFIG, digest=other, size_bytes=7)
    assert manifest.media_type == "x"


def test_a_manifest_is_no_index_by_another_case_of_letters_either() -> None:
    with pytest.raises(InvalidDocument, match="it is an index too"):
        decode_manifest(manifest_bytes(MANIFESTS=[]))


@pytest.mark.parametrize("data", [manifest_bytes(schemaVersion=0), json.dumps({"config": DESCRIPTOR, "layers": []}).encode()])
def test_a_manifest_need_not_say_which_schema_it_has(data: bytes) -> None:
    assert decode_manifest(data).config.digest == DIGEST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"schemaVersion": 2}',
        manifest_bytes(schemaVersion=1),
        manifest_bytes(config={**DESCRIPTOR, "digest": "sha256:abc"}),
        manifest_bytes(config={**DESCRIPTOR, "digest": 1}),
        manifest_bytes(config={**DESCRIPTOR, "digest": "md5:" + "0" * 32}),
        manifest_bytes(config={**DESCRIPTOR, "size": -1}),
        manifest_bytes(config={**DESCRIPTOR, "size": "6"}),
        manifest_bytes(layers=[None]),
        manifest_bytes(manifests=[]),
        b'{"a":' * 200_000,
        b"[" * 200_000,
        b" " * (MAX_DOCUMENT_BYTES + 1),
    ],
)
def test_a_wrong_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidDocument):
        decode_manifest(data)


def test_nesting_beyond_reason_is_named() -> None:
    """The interpreter's stack must not be what stops a document."""
    with pytest.raises(InvalidDocument, match="exceeded max depth"):
        decode_index(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@given(
    st.binary(max_size=200)
    | st.text().map(str.encode)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_any_bytes_are_a_document_or_our_error(data: bytes) -> None:
    for decode in (decode_manifest, decode_index, decode_saved_images, is_index):
        try:
            decode(data)
        except InvalidDocument:
            continue


def test_an_index_is_told_from_a_manifest() -> None:
    assert is_index(b'{"schemaVersion": 2, "manifests": []}')
    assert is_index(b'{"mediaType": "application/vnd.docker.distribution.manifest.list.v2+json"}')
    assert not is_index(manifest_bytes())
    assert not is_index(b'{"mediaType": "application/vnd.oci.image.manifest.v1+json", "manifests": []}')


def test_docker_saves_list_may_be_empty_but_not_null() -> None:
    assert decode_saved_images(b"[]") == []
    with pytest.raises(InvalidDocument) as caught:
        decode_saved_images(b" null\n")
    assert caught.value.message == "invalid manifest, manifest cannot be null (but can be [])"
    saved = decode_saved_images(b'[{"Config": "c.json", "RepoTags": null, "Layers": ["l/layer.tar"], "Parent": "x"}]')
    assert (saved[0].config, saved[0].repo_tags, saved[0].layers) == ("c.json", [], ["l/layer.tar"])


def test_what_we_write_we_can_read() -> None:
    layer = Descriptor(media_type=OCI_LAYER, digest=Digest.of(b"layer"), size_bytes=5, annotations={"a": "b"})
    config = Descriptor(media_type=OCI_CONFIG, digest=DIGEST, size_bytes=6)
    data = encode_manifest(config, [layer])
    manifest = decode_manifest(data)
    assert (manifest.schema_version, manifest.media_type, manifest.config, manifest.layers) == (2, OCI_MANIFEST, config, [layer])
    assert encode_document(manifest) == data
    index = decode_index(encode_index([config]))
    assert (index.schema_version, index.manifests) == (2, [config])


def test_a_type_that_is_no_document_is_a_fault_of_ours() -> None:
    class Wrong(msgspec.Struct):
        value: object

    with pytest.raises(NotImplementedError, match="complex"):
        encode_document(Wrong(1j))


def test_attestations_are_told_from_images() -> None:
    attestation = Descriptor(digest=DIGEST, size_bytes=1, annotations={"vnd.docker.reference.type": "attestation-manifest"})
    assert attestation.is_attestation
    assert not Descriptor(digest=DIGEST, size_bytes=1).is_attestation


def test_layers_have_media_types_by_compression() -> None:
    assert [layer_media_type(name) for name in ("", "gzip", "zstd")] == [OCI_LAYER, OCI_LAYER + "+gzip", OCI_LAYER + "+zstd"]
