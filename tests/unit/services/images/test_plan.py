"""Names and documents of an archive, decided without one: what the kernel tier's whole archives do not reach."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.errors import InvalidParameter
from teul.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.services.images.archive_contents import ArchiveContents
from teul.services.images.plan import PlannedImage, plan_load
from teul.workers.client import InvalidArchive
from teul.workers.layers import Member

AMD64 = Platform(os="linux", architecture="amd64")
LAYER = b"layer"
CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(LAYER))]}}).encode()


class Archive:
    """Members with their bytes in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.contents = ArchiveContents(lambda member: self.files[member.path])

    def file(self, name: str, data: bytes, compression: str = "") -> None:
        path = str(len(self.files))
        self.files[path] = data
        self.contents.add(Member(name, "file", path=path, size_bytes=len(data), digest=Digest.of(data), compression=compression))

    def link(self, name: str, target: str, kind: str = "symlink") -> None:
        self.contents.add(Member(name, kind, target=target))

    def blob(self, data: bytes, media_type: str = "", **fields: Any) -> dict[str, Any]:
        digest = Digest.of(data)
        self.file(f"blobs/sha256/{digest.hex}", data)
        return {"mediaType": media_type, "digest": str(digest), "size": len(data), **fields}

    def manifest(self, config: bytes = CONFIG, **fields: Any) -> dict[str, Any]:
        document = {"schemaVersion": 2, "config": self.blob(config), "layers": [self.blob(LAYER)]}
        return self.blob(json.dumps(document).encode(), OCI_MANIFEST, **fields)

    def index(self, *manifests: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return self.blob(json.dumps({"schemaVersion": 2, "manifests": manifests}).encode(), OCI_INDEX, **fields)

    def plan(self, *manifests: dict[str, Any], wanted: Platform | None = None) -> list[PlannedImage]:
        self.file("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())
        return plan_load(self.contents, AMD64, wanted)


def names(planned: list[PlannedImage]) -> list[list[str]]:
    return [[tag.familiar for tag in image.tags] for image in planned]


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"io.containerd.image.name": "docker.io/library/a:1", "org.opencontainers.image.ref.name": "1"}, ["a:1"]),
        ({"org.opencontainers.image.ref.name": "a:1"}, ["a:1"]),
        ({"org.opencontainers.image.ref.name": "x/a"}, ["x/a:latest"]),
        ({"org.opencontainers.image.ref.name": "latest"}, []),
        ({"org.opencontainers.image.ref.name": ""}, []),
        (None, []),
    ],
)
def test_an_oci_layout_gives_names_by_annotations(annotations: dict[str, str] | None, expected: list[str]) -> None:
    archive = Archive()
    assert names(archive.plan(archive.manifest(annotations=annotations))) == [expected]


def test_two_names_of_one_image_are_one_image() -> None:
    archive = Archive()
    descriptor = archive.manifest()
    planned = archive.plan(*({**descriptor, "annotations": {"io.containerd.image.name": name}} for name in ("a:1", "b:1", "a:1")))
    assert names(planned) == [["a:1", "b:1"]]


def test_manifests_for_several_platforms_beside_each_other_are_one_image() -> None:
    archive = Archive()
    other = archive.manifest(CONFIG.replace(b"amd64", b"arm64"), platform={"os": "linux", "architecture": "arm64"})
    mine = archive.manifest(platform={"os": "linux", "architecture": "amd64"})
    [image] = archive.plan(other, mine)
    assert image.platforms[0].document.architecture == "amd64"


def test_manifests_that_name_no_platform_are_so_many_images() -> None:
    archive = Archive()
    assert len(archive.plan(archive.manifest(), archive.manifest(CONFIG + b" "))) == 2


def test_an_index_may_go_without_its_media_type() -> None:
    archive = Archive()
    descriptor = archive.index(archive.manifest(platform={"os": "linux", "architecture": "amd64"}))
    assert len(archive.plan({**descriptor, "mediaType": ""})) == 1
    archive = Archive()
    assert len(archive.plan({**archive.manifest(), "mediaType": ""})) == 1


def test_indexes_are_nested_a_few_times_only() -> None:
    archive = Archive()
    descriptor = archive.manifest()
    for _ in range(4):
        descriptor = archive.index(descriptor)
    assert len(archive.plan(descriptor)) == 1
    archive = Archive()
    descriptor = archive.manifest()
    for _ in range(6):
        descriptor = archive.index(descriptor)
    with pytest.raises(InvalidArchive, match="nested too deeply"):
        archive.plan(descriptor)


def test_a_wanted_platform_is_compared_with_the_config() -> None:
    archive = Archive()
    with pytest.raises(InvalidArchive, match="no image for platform linux/arm64 in the archive"):
        archive.plan(archive.manifest(), wanted=Platform(os="linux", architecture="arm64"))


def saved(archive: Archive, **fields: Any) -> None:
    item = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"], **fields}
    archive.file("manifest.json", json.dumps([item]).encode())


def test_docker_saves_images_for_other_platforms_are_left_out_if_asked() -> None:
    archive = Archive()
    archive.file("c.json", CONFIG)
    archive.file("l.tar", LAYER)
    saved(archive)
    assert plan_load(archive.contents, AMD64, Platform(os="linux", architecture="arm64")) == []
    assert names(plan_load(archive.contents, AMD64, AMD64)) == [["a:1"]]


def test_a_manifest_beside_docker_saves_is_kept_only_if_its_layers_are_the_archives() -> None:
    for layer, kept in ((LAYER, True), (b"recompressed", False)):
        archive = Archive()
        descriptor = archive.index(archive.manifest(), archive.manifest(annotations={"vnd.docker.reference.type": "attestation-manifest"}))
        missing = {**archive.manifest(), "digest": str(Digest.of(b"other platform's, not saved"))}
        archive.file("c.json", CONFIG)
        archive.file("l.tar", layer)
        saved(archive)
        [image] = archive.plan(descriptor, missing)
        assert (image.target.media_type == OCI_INDEX) is kept
        assert image.platforms[0].layers[0].digest == Digest.of(layer)


def test_indexes_beside_docker_saves_manifest_are_nested_a_few_times_only() -> None:
    archive = Archive()
    descriptor = archive.manifest()
    for _ in range(8):
        descriptor = archive.index(descriptor)
    archive.file("c.json", CONFIG)
    archive.file("l.tar", LAYER)
    saved(archive)
    with pytest.raises(InvalidArchive, match="nested too deeply"):
        archive.plan(descriptor)


def test_links_lead_to_files() -> None:
    archive = Archive()
    archive.file("a/layer.tar", b"x")
    archive.link("b/layer.tar", "../a/layer.tar")
    archive.link("c/layer.tar", "/a/layer.tar")
    archive.link("d/layer.tar", "a/layer.tar", kind="link")
    archive.link("e/layer.tar", "b")
    for name in ("b", "c", "d"):
        found = archive.contents.get(f"./{name}//layer.tar")
        assert found.name == "a/layer.tar"
    assert archive.contents.find("e/layer.tar") is None
    with pytest.raises(InvalidArchive, match=r"open e/layer\.tar: no such file or directory"):
        archive.contents.get("e/layer.tar")


@pytest.mark.parametrize("name", ["../x", "a/../../x", ".."])
def test_names_that_lead_out_are_refused(name: str) -> None:
    archive = Archive()
    with pytest.raises(InvalidArchive, match="is outside of it"):
        archive.file(name, b"")
    with pytest.raises(InvalidArchive, match="is outside of it"):
        archive.contents.find(name)


@pytest.mark.parametrize("name", ["0" * 64 + ".json", "sha256:" + "0" * 64, "blobs/sha256/" + "0" * 64, "blobs/sha512/" + "0" * 128])
def test_a_file_named_after_a_digest_must_have_it(name: str) -> None:
    archive = Archive()
    archive.file(name, b"x")
    if "sha512" in name:
        # The worker hashes such a file with its own algorithm; here it did not, so nothing can be said.
        assert archive.contents.get(name) is not None
        return
    with pytest.raises(InvalidArchive, match="has digest"):
        archive.contents.get(name)


@pytest.mark.parametrize("name", ["c.json", "0" * 64 + "/layer.tar", "x/" + "0" * 64])
def test_other_names_claim_nothing(name: str) -> None:
    archive = Archive()
    archive.file(name, b"x")
    assert archive.contents.get(name) is not None


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["c.json", "l.tar", "a:1", "../x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Config", "RepoTags", "Layers", "manifests", "mediaType", "digest", "size"]), inner)
    ),
    max_leaves=12,
)


@given(_json, st.sampled_from(["manifest.json", "index.json"]))
def test_any_document_gives_a_plan_or_our_error(document: Any, name: str) -> None:
    archive = Archive()
    archive.file("c.json", CONFIG)
    archive.file("l.tar", LAYER)
    archive.file(name, json.dumps(document).encode())
    try:
        plan_load(archive.contents, AMD64, None)
    except InvalidParameter:
        return
