"""Loading and importing for real: workers, files and rows together, and that a refused archive leaves nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import lzma
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from kernel.services.images.host import AMD64, BASE, MERGED, TOP, Host, tree
from kernel.workers.archive_cases import archive, config, digest, hard_link, member, saved, saved_image, stream, symlink
from support.container_records import container_record
from support.needs import needs
from teul.errors import InvalidParameter, NotFound, TeulError
from teul.model.filter import Filters
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.oci.reference import parse_reference
from teul.services.images.import_ import ImportRequest
from teul.services.images.listing import ImageQuery
from teul.services.images.load import LayerProgress
from teul.workers.layers import Limits

pytestmark = needs("root")


def oci_archive(
    *layers: bytes, compress: Callable[[bytes], bytes] = bytes, suffix: str = "", annotations: Any = None, document: bytes | None = None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The blobs of an OCI layout by path, and the descriptor of its manifest."""
    blobs: dict[str, bytes] = {}

    def store(media_type: str, data: bytes) -> dict[str, Any]:
        blobs["blobs/sha256/" + digest(data).removeprefix("sha256:")] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": store("application/vnd.oci.image.config.v1+json", document or config(*layers)),
        "layers": [store("application/vnd.oci.image.layer.v1.tar" + suffix, compress(layer)) for layer in layers],
    }
    descriptor = store("application/vnd.oci.image.manifest.v1+json", json.dumps(manifest).encode())
    if annotations is not None:
        descriptor["annotations"] = annotations
    return blobs, descriptor


def layout(blobs: dict[str, bytes], *descriptors: dict[str, Any]) -> bytes:
    index = {"schemaVersion": 2, "manifests": list(descriptors)}
    files = {**blobs, "index.json": json.dumps(index).encode(), "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    return archive(*(member(name, data) for name, data in files.items()))


async def load(host: Host, data: bytes, **options: Any) -> list[str]:
    """Load `data`; the familiar names it brought, or the ids of images without any."""
    loaded = await host.archives.load(stream(data), **options)
    return [name for image in loaded for name in ([tag.familiar for tag in image.tags] or [str(image.image_id)])]


@pytest.mark.parametrize("outer", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
async def test_a_docker_save_archive_in_the_old_layout(host: Host, outer: Callable[[bytes], bytes]) -> None:
    assert await load(host, outer(saved_image(BASE, TOP, tags=["test/image:1", "other"[:5] + ":2"]))) == ["test/image:1", "other:2"]
    image = host.images.resolve("test/image:1")
    assert tree(host.images, image) == MERGED
    assert image.chosen.config is not None
    assert str(image.chosen.config.digest) == digest(config(BASE, TOP))
    assert host.images.resolve(digest(config(BASE, TOP))) == image, "it answers to its config's digest as well"
    assert host.images.resolve(digest(config(BASE, TOP))[7:19]) == image
    assert image.size_bytes == len(b"root#!program")
    assert host.rows() == {"blobs": 4, "snapshots": 2, "images": 1, "tags": 2}
    assert host.files()["tmp"] == []
    assert host.sink.events == [("load", str(image.image_id))]


async def test_duplicate_layers_may_be_links(host: Host) -> None:
    """docker save of old wrote a symlink where a layer came twice, with VERSION and json beside each."""
    document = config(BASE, TOP, BASE)
    files = [
        member("c.json", document),
        member("a/VERSION", b"1.0"),
        member("a/json", b"{}"),
        member("a/layer.tar", BASE),
        member("b/layer.tar", TOP),
        symlink("c/layer.tar", "../a/layer.tar"),
        hard_link("d.tar", "b/layer.tar"),
        member("repositories", b"{}"),
    ]
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["a/layer.tar", "d.tar", "c/layer.tar"]}]
    [loaded] = await load(host, archive(*files, member("manifest.json", json.dumps(manifest).encode())))
    image = host.images.resolve(digest(document))
    assert loaded == str(image.image_id)
    assert tree(host.images, image) == {**MERGED, "etc/passwd": b"root"}
    assert host.rows()["snapshots"] == 3, "the same layer higher up in the chain is another snapshot"
    assert host.rows()["blobs"] == 4, "but the same blob"


async def test_a_docker_save_archive_in_the_new_layout_keeps_its_manifest(host: Host) -> None:
    blobs, descriptor = oci_archive(BASE, TOP)
    names = list(blobs)
    saved_manifest = [{"Config": names[0], "RepoTags": ["test/image:latest"], "Layers": names[1:3]}]
    files = {**blobs, "index.json": json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode(), "oci-layout": b"{}"}
    assert await load(host, saved(files, saved_manifest)) == ["test/image:latest"]
    assert str(host.images.resolve("test/image").image_id) == descriptor["digest"]


@pytest.mark.parametrize(
    ("compress", "suffix"),
    [(bytes, ""), (gzip.compress, "+gzip"), (zstandard.compress, "+zstd"), (lzma.compress, "")],
    ids=["plain", "gzip", "zstd", "xz"],
)
async def test_an_oci_layout(host: Host, compress: Callable[[bytes], bytes], suffix: str) -> None:
    blobs, descriptor = oci_archive(
        BASE, TOP, compress=compress, suffix=suffix, annotations={"io.containerd.image.name": "docker.io/test/image:1"}
    )
    assert await load(host, layout(blobs, descriptor)) == ["test/image:1"]
    image = host.images.resolve("test/image:1")
    assert tree(host.images, image) == MERGED
    assert str(image.image_id) == descriptor["digest"]
    assert [layer.media_type for layer in image.chosen.layers] == ["application/vnd.oci.image.layer.v1.tar" + suffix] * 2
    assert sorted(host.files()["blobs/sha256"]) == sorted(path.rpartition("/")[2] for path in blobs)


async def test_the_platform_is_chosen_from_a_nested_index_and_attestations_are_not_images(host: Host) -> None:
    blobs: dict[str, bytes] = {}
    children = []
    for architecture in ("arm64", "amd64", "s390x"):
        layer = archive(member("arch", architecture.encode()))
        document = config(layer).replace(b"amd64", architecture.encode())
        found, descriptor = oci_archive(layer, document=document)
        blobs |= found
        children.append({**descriptor, "platform": {"os": "linux", "architecture": architecture}})
    attestation = {**children[0], "platform": {"os": "unknown", "architecture": "unknown"}}
    attestation["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    index = json.dumps({"schemaVersion": 2, "manifests": [attestation, *children]}).encode()
    blobs["blobs/sha256/" + digest(index).removeprefix("sha256:")] = index
    top = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(index), "size": len(index)}
    top["annotations"] = {"org.opencontainers.image.ref.name": "test/multi:1"}
    assert await load(host, layout(blobs, top)) == ["test/multi:1"]
    image = host.images.resolve("test/multi:1")
    assert str(image.image_id) == digest(index)
    assert tree(host.images, image) == {"arch": b"amd64"}
    assert host.rows() == {"blobs": 10, "snapshots": 3, "images": 1, "tags": 1}, "all platforms come along"
    assert tree(host.images, host.images.resolve("test/multi:1", Platform(os="linux", architecture="s390x"))) == {"arch": b"s390x"}
    assert [manifest.kind for manifest in image.manifests] == ["attestation", "image", "image", "image"]
    await host.remover.remove("test/multi:1")
    assert host.is_empty()
    await load(host, layout(blobs, top), platform=Platform(os="linux", architecture="s390x"))
    image = host.images.resolve("test/multi:1")
    assert str(image.image_id) == digest(index)
    assert [(str(manifest.platform), manifest.available, manifest.ready) for manifest in image.manifests[1:]] == [
        ("linux/arm64", False, False),
        ("linux/amd64", False, False),
        ("linux/s390x", True, True),
    ]
    assert tree(host.images, image) == {"arch": b"s390x"}
    with pytest.raises(NotFound) as refused:
        host.images.resolve("test/multi:1", AMD64)
    assert "was found but its platform (linux/s390x) does not match the specified platform (linux/amd64)" in refused.value.message
    await load(host, layout(blobs, top), platform=AMD64)
    assert host.rows() == {"blobs": 7, "snapshots": 2, "images": 1, "tags": 1}, "a platform that comes later joins the others"
    assert tree(host.images, host.images.resolve("test/multi:1")) == {"arch": b"amd64"}
    with pytest.raises(InvalidParameter, match="no image for platform linux/riscv64 in the archive"):
        await load(host, layout(blobs, top), platform=Platform(os="linux", architecture="riscv64"))


async def test_a_layer_of_several_images_is_stored_and_unpacked_once(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    [unpacked] = host.images.layer_directories(host.images.resolve("base:1"))
    inode = os.stat(unpacked).st_ino
    await load(host, saved_image(BASE, TOP, tags=["app:1"]))
    assert os.stat(host.images.layer_directories(host.images.resolve("app:1"))[-1]).st_ino == inode
    assert host.rows()["snapshots"] == 2
    assert [summary.shared_size_bytes for summary in host.images.list(ImageQuery(shared_size=True))] == [6, 6]
    await host.remover.remove("base:1")
    assert tree(host.images, host.images.resolve("app:1")) == MERGED
    await host.remover.remove("app:1")
    assert host.is_empty()


async def test_two_loads_at_once_end_as_one(host: Host) -> None:
    data = [saved_image(BASE, TOP, tags=[f"test/image:{number}"]) for number in range(6)]
    await asyncio.gather(*(load(host, one) for one in data))
    assert host.rows() == {"blobs": 4, "snapshots": 2, "images": 1, "tags": 6}
    assert host.files()["tmp"] == []
    assert tree(host.images, host.images.resolve("test/image:3")) == MERGED


async def test_loads_and_removals_at_once_leave_whole_images(host: Host) -> None:
    """A layer that one image brings must not go while another image that counts on it is being stored."""

    async def again_and_again(number: int) -> None:
        for _ in range(5):
            await load(host, saved_image(BASE, TOP, tags=[f"test/image:{number}"]))
            await host.remover.remove(f"test/image:{number}")

    await asyncio.gather(*(again_and_again(number) for number in range(4)))
    assert host.is_empty()


async def test_loading_again_changes_nothing_but_the_names(host: Host) -> None:
    await load(host, saved_image(BASE, TOP, tags=["a:1"]))
    files = host.files()
    assert await load(host, saved_image(BASE, TOP, tags=["b:1"])) == ["b:1"]
    assert host.files() == files
    assert [name.familiar for name in host.images.references(host.images.resolve("b:1"))] == ["a:1", "b:1"]


async def test_the_same_files_compressed_are_another_image_of_the_same_layers(host: Host) -> None:
    await load(host, saved_image(BASE, TOP, tags=["a:1"]))
    files = host.files()
    blobs, descriptor = oci_archive(BASE, TOP, compress=gzip.compress, suffix="+gzip", annotations={"io.containerd.image.name": "b:1"})
    await load(host, layout(blobs, descriptor))
    assert host.images.resolve("a:1").image_id != host.images.resolve("b:1").image_id
    assert host.files()["snapshots"] == files["snapshots"]
    assert host.images.resolve(digest(config(BASE, TOP))) == host.images.resolve("b:1"), "the config's digest means the newest"


async def test_a_name_moves_to_the_newer_image(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["a:1"]))
    old = host.images.resolve("a:1").image_id
    [loaded] = await host.archives.load(stream(saved_image(TOP, tags=["a:1"])))
    assert list(loaded.replaced.values()) == [old]
    assert host.images.references(host.images.get(old)) == []


async def test_several_images_come_in_one_archive(host: Host) -> None:
    documents = [config(BASE), config(BASE, TOP)]
    files = {"1.json": documents[0], "2.json": documents[1], "a.tar": BASE, "b.tar": TOP}
    manifest = [
        {"Config": "1.json", "RepoTags": ["one:1"], "Layers": ["a.tar"]},
        {"Config": "2.json", "RepoTags": [], "Layers": ["a.tar", "b.tar"]},
    ]
    assert await load(host, saved(files, manifest)) == ["one:1", str(host.images.resolve(digest(documents[1])).image_id)]
    assert host.rows()["snapshots"] == 2


async def test_progress_is_told_per_layer(host: Host) -> None:
    told: list[LayerProgress] = []

    async def progress(step: LayerProgress) -> None:
        told.append(step)

    await load(host, saved_image(BASE, TOP), progress=progress)
    assert [(str(step.diff_id), step.current_bytes, step.total_bytes) for step in told] == [
        (digest(layer), current, len(layer)) for layer in (BASE, TOP) for current in (0, len(layer))
    ]


def _broken() -> dict[str, tuple[bytes, str]]:
    document = config(BASE)
    name = digest(document).removeprefix("sha256:") + ".json"
    item = {"Config": name, "RepoTags": ["x:1"], "Layers": ["l.tar"]}
    files = {name: document, "l.tar": BASE}
    other = archive(member("other"))
    blobs, descriptor = oci_archive(BASE, TOP, annotations={"io.containerd.image.name": "x:1"})
    paths = list(blobs)
    hostile = archive(symlink("x", "/etc"), member("x/evil"))
    good = saved(files, [item])
    return {
        "empty": (b"", "unrecognized image format"),
        "no documents": (archive(member("x")), "unrecognized image format"),
        "not an archive": (b"nonsense " * 1000, "invalid tar header"),
        "truncated": (good[: len(good) // 2], "unexpected EOF"),
        "truncated gzip": (gzip.compress(good)[:-20], "unexpected EOF"),
        "manifest is null": (saved(files, None), "invalid manifest, manifest cannot be null"),
        "manifest is no list": (saved(files, {"a": 1}), "invalid manifest"),
        "manifest is not JSON": (archive(member("manifest.json", b"{")), "invalid manifest"),
        "two manifests": (archive(member("manifest.json", b"[]"), member("./manifest.json", b"[]")), "duplicate manifest.json"),
        "huge manifest": (archive(member("manifest.json", b" " * (5 << 20))), "larger than"),
        "deep manifest": (archive(member("manifest.json", b"[" * 100_000)), "exceeded max depth"),
        "layer missing": (saved({name: document}, [item]), "open l.tar: no such file or directory"),
        "config missing": (saved({"l.tar": BASE}, [item]), "no such file or directory"),
        "config renamed": (saved({name: document + b" ", "l.tar": BASE}, [item]), "has digest"),
        "config is no image": (saved({"c.json": b"{}", "l.tar": BASE}, [{**item, "Config": "c.json"}]), "no RootFS key"),
        "layers too many": (saved(files, [{**item, "Layers": ["l.tar", "l.tar"]}]), "layers length mismatch: expected 2, got 1"),
        "wrong layer": (saved({**files, "l.tar": other}, [item]), 'invalid diffID for layer 0: expected "sha256:'),
        "a layer that is none": (saved({**files, "l.tar": b"x" * 600}, [item]), "invalid tar header"),
        "xz layer": (saved({**files, "l.tar": b"\xfd7zXZ\x00" + bytes(99)}, [item]), "invalid compressed data"),
        "xz layer cut off": (saved({**files, "l.tar": lzma.compress(BASE)[:-20]}, [item]), "unexpected EOF"),
        "another system": (
            saved({"c.json": document.replace(b"linux", b"plan9"), "l.tar": BASE}, [{**item, "Config": "c.json"}]),
            "cannot load plan9 image on linux",
        ),
        "invalid name": (saved(files, [{**item, "RepoTags": ["UPPER:1"]}]), "must be lowercase"),
        "a name without a tag": (saved(files, [{**item, "RepoTags": ["x"]}]), 'invalid tag "x"'),
        "a path outside": (saved(files, [{**item, "Layers": ["../../etc/passwd"]}]), "is outside of it"),
        "a member outside": (archive(member("../evil"), member("manifest.json", b"[]")), "is outside of it"),
        "a link outside": (archive(symlink("manifest.json", "../../etc/passwd")), "is outside of it"),
        "links in a circle": (archive(symlink("manifest.json", "index.json"), symlink("index.json", "manifest.json")), "too many levels"),
        "hostile layer": (saved_image(BASE, hostile), "is a symlink out of the layer"),
        "the second image is broken": (saved(files, [item, {**item, "Layers": []}]), "layers length mismatch"),
        "blob with a wrong name": (layout({**blobs, paths[1]: other}, descriptor), "unexpected commit digest"),
        "blob missing": (layout({path: blobs[path] for path in paths if path != paths[1]}, descriptor), "not found"),
        "a wrong size": (layout(blobs, {**descriptor, "size": 7}), "unexpected commit size"),
        "manifest missing": (layout(blobs, {**descriptor, "digest": "sha256:" + "0" * 64}), "not found"),
        "no image at all": (layout({}), "no image for platform"),
    }


@pytest.mark.parametrize("name", _broken())
async def test_a_refused_archive_leaves_nothing(host: Host, name: str) -> None:
    data, message = _broken()[name]
    with pytest.raises(InvalidParameter) as caught:
        await load(host, data)
    assert message in caught.value.message
    assert host.is_empty()
    assert not (host.root.parent / "evil").exists()
    assert host.sink.events == []


async def test_a_refused_archive_harms_nothing_that_is_there(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    before = host.rows(), host.files()
    broken = archive(member("f", b"x" * 600))[:700]
    with pytest.raises(InvalidParameter):
        await load(host, saved_image(BASE, broken))
    assert (host.rows(), host.files()) == before
    assert tree(host.images, host.images.resolve("base:1")) == {"bin/sh": b"#!", "etc/passwd": b"root"}


async def test_limits_hold_for_loads(host: Host) -> None:
    host.limits = Limits(layer_bytes=1000)
    await host.restart()
    with pytest.raises(InvalidParameter, match="larger than the limit of 1000 bytes"):
        await load(host, saved_image(archive(member("f", bytes(5000)))))
    assert host.is_empty()


async def test_a_client_that_goes_away_leaves_nothing(host: Host) -> None:
    class Gone(Exception):
        pass

    async def cut() -> AsyncIterator[bytes]:
        data = saved_image(BASE, TOP)
        yield data[: len(data) - 3000]
        raise Gone

    with pytest.raises(Gone):
        await host.archives.load(cut())
    assert host.is_empty()


async def test_a_cancelled_load_leaves_nothing(host: Host) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        data = saved_image(BASE, TOP)
        yield data[:-4096]
        started.set()
        await asyncio.sleep(60)

    job = asyncio.ensure_future(host.archives.load(endless()))
    await started.wait()
    await asyncio.sleep(0.2)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert host.is_empty()


async def test_a_new_engine_finds_everything_and_sweeps_what_is_nobodys(host: Host) -> None:
    await load(host, saved_image(BASE, TOP))
    before = host.rows(), host.files()
    (host.root / "tmp/unfinished/deep").mkdir(parents=True)
    (host.root / "snapshots" / ("0" * 64) / "fs").mkdir(parents=True)
    (host.root / "blobs/sha256" / ("0" * 64)).write_bytes(b"x")
    (host.root / "blobs/sha256/half.1.new").write_bytes(b"x")
    images = await host.restart()
    assert (host.rows(), host.files()) == before
    assert tree(images, images.resolve("test/image")) == MERGED


async def test_a_damaged_config_costs_one_image_only(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["good:1"]))
    await load(host, saved_image(TOP, tags=["bad:1"]))
    path = host.root / "blobs/sha256" / host.images.resolve("bad:1").image_id.hex
    path.write_bytes(b"damaged")
    images = await host.restart()
    assert [summary.tags[0].familiar for summary in images.list(ImageQuery())] == ["good:1"]
    with pytest.raises(NotFound):
        images.resolve("bad:1")


async def test_import_makes_an_image_of_one_layer(host: Host) -> None:
    request = ImportRequest(
        reference=parse_reference("test/imported:1"),
        changes=['CMD ["/bin/sh"]', "ENV A=1", "LABEL a=b"],
        message="Imported from -",
        platform=Platform(os="linux", architecture="arm64", variant="v8"),
    )
    image_id = await host.archives.import_(stream(gzip.compress(BASE)), request)
    image = host.images.resolve("test/imported:1")
    assert image.image_id == image_id
    assert (image.config.cmd, image.config.env, image.config.labels) == (["/bin/sh"], ["A=1"], {"a": "b"})
    assert str(image.document.platform) == "linux/arm64/v8"
    assert tree(host.images, image) == {"bin/sh": b"#!", "etc/passwd": b"root"}
    assert [(step.comment, step.size_bytes) for step in host.images.history(image)] == [("Imported from -", 6)]
    assert [event[0] for event in host.sink.events] == ["tag", "import"]
    assert host.images.tagged_at_ns(image) > 0


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (BASE[:700], {}, "unexpected EOF"),
        (archive(member("../x")), {}, "is outside of the layer"),
        (BASE, {"changes": ["RUN x"]}, "RUN is not a valid change command"),
        (BASE, {"platform": Platform(os="windows", architecture="amd64")}, 'operating system "windows" is not supported'),
    ],
)
async def test_a_refused_import_leaves_nothing(host: Host, data: bytes, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        await host.archives.import_(stream(data), ImportRequest(**options))
    assert host.is_empty()


async def test_what_was_saved_loads_again_as_the_same(host: Host, tmp_path: Path) -> None:
    blobs, descriptor = oci_archive(BASE, TOP, compress=gzip.compress, suffix="+gzip", annotations={"io.containerd.image.name": "a:1"})
    await load(host, layout(blobs, descriptor))
    await load(host, saved_image(TOP, tags=["b:1", "b:2"]))
    data = b"".join([chunk async for chunk in host.archives.save(["a:1", "b"])])
    assert data == b"".join([chunk async for chunk in host.archives.save(["a:1", "b"])]), "the same every time"
    before = {summary.image.image_id for summary in host.images.list(ImageQuery())}
    for name in ("a:1", "b:1", "b:2"):
        await host.remover.remove(name)
    assert host.is_empty()
    assert sorted(await load(host, data)) == ["a:1", "b:1", "b:2"]
    assert {summary.image.image_id for summary in host.images.list(ImageQuery())} == before


async def test_an_image_deleted_by_force_goes_when_its_container_does(host: Host) -> None:
    await load(host, saved_image(BASE, TOP, tags=["a:1"]))
    image = host.images.resolve("a:1")
    container = container_record(image_id=image.image_id)
    host.usage.declare(container, [image.image_id])
    with pytest.raises(TeulError, match=r"conflict: unable to remove repository reference \"a:1\" \(must force\)"):
        await host.remover.remove("a:1")
    removed = await host.remover.remove("a:1", force=True)
    assert [item.deleted for item in removed] == [None, image.image_id], "the layers stay"
    assert host.images.list(ImageQuery()) == []
    with pytest.raises(NotFound):
        host.images.resolve(str(image.image_id))
    images = await host.restart()
    kept = images.get(image.image_id)
    assert tree(images, kept) == MERGED, "the container can start, after a restart of the engine too"
    host.usage.declare(container, [image.image_id])
    await images.release(image.image_id)
    assert host.rows()["images"] == 1
    host.usage.withdraw(container)
    await images.release_unused()
    assert host.is_empty()


async def test_an_image_deleted_by_force_may_be_loaded_again(host: Host) -> None:
    data = saved_image(BASE, TOP, tags=["a:1"])
    await load(host, data)
    container = container_record()
    host.usage.declare(container, [host.images.resolve("a:1").image_id])
    await host.remover.remove("a:1", force=True)
    assert await load(host, data) == ["a:1"]
    assert host.rows() == {"blobs": 4, "snapshots": 2, "images": 1, "tags": 1}
    host.usage.withdraw(container)
    await host.remover.remove(str(Digest(digest(config(BASE, TOP)))))
    assert host.is_empty()


async def test_prune_takes_what_has_no_name(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["a:1"]))
    old = host.images.resolve("a:1").image_id
    await load(host, saved_image(TOP, tags=["a:1"]))
    pruned = await host.remover.prune(Filters())
    assert pruned.reclaimed_bytes == 6
    assert [event for event in host.sink.events if event[0] in ("delete", "prune")] == [("delete", str(old)), ("prune", "")]
    assert len(host.images.list(ImageQuery())) == 1
    pruned = await host.remover.prune(Filters({"dangling": ["false"]}))
    assert host.is_empty()


async def test_a_compressed_layer_that_was_seen_before_is_not_unpacked_again(host: Host) -> None:
    """Only what was verified once may be skipped: another blob that claims the same diff_id is unpacked and compared."""
    told: list[str] = []

    async def progress(step: LayerProgress) -> None:
        if step.current_bytes:
            told.append(str(step.diff_id))

    def packed(compress: Callable[[bytes], bytes], *layers: bytes, name: str) -> bytes:
        blobs, descriptor = oci_archive(*layers, compress=compress, suffix="+gzip", annotations={"io.containerd.image.name": name})
        return layout(blobs, descriptor)

    def fastest(data: bytes) -> bytes:
        return gzip.compress(data, 1, mtime=1)

    await load(host, packed(fastest, BASE, name="a:1"), progress=progress)
    await load(host, packed(fastest, BASE, TOP, name="b:1"), progress=progress)
    assert told == [digest(BASE), digest(TOP)]
    other = archive(member("other"))
    await load(host, packed(lambda data: gzip.compress(data, 9, mtime=2), BASE, other, name="c:1"), progress=progress)
    assert told == [digest(BASE), digest(TOP), digest(BASE), digest(other)]
    swapped = packed(lambda data: gzip.compress(TOP if data == BASE else data, 9, mtime=3), BASE, archive(member("more")), name="d:1")
    with pytest.raises(InvalidParameter, match="invalid diffID for layer 0"):
        await load(host, swapped)
    assert host.rows()["images"] == 3
