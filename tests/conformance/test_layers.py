"""What dockerd unpacks from an archive is what Teul shows of it, entry by entry, whether it has unpacked it or indexed it."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.layer_cases import CASES, OF_ALL, Case
from kernel.workers.archive_cases import saved_image
from support.dockerd import Dockerd
from support.needs import needs
from support.trees import LISTED_ONLY, Tree, differences, tree
from teul.aio import SlowWork
from teul.linux import mounts
from teul.oci.digest import Digest
from teul.snapshots import erofs
from teul.store.layer_files import INDEX_FILE
from teul.workers.client import InvalidArchive
from teul.workers.layers import Limits, index_blob, unpack

pytestmark = needs("root", "dockerd", "docker_cli", "overlayfs")

SLOW = SlowWork()
_IMAGE = "test/image:latest"
# docker: what the layer between an image and a container's own has (daemon/initlayer).
_INIT = {b".dockerenv", b"dev", b"dev/console", b"dev/pts", b"dev/shm", b"etc", b"etc/hostname", b"etc/hosts", b"etc/mtab"}
_INIT |= {b"etc/resolv.conf", b"proc", b"sys", b"."}
_TYPES = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.LNKTYPE: None,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


@pytest.fixture(scope="module")
def docker() -> Iterator[Dockerd]:
    with Dockerd(extra=("--storage-driver", "overlay2")) as running:
        yield running


@contextmanager
def merged(layers: list[str | int], place: Path) -> Iterator[str]:
    """What a container sees of `layers`, the lowest first."""
    place.mkdir()
    (place / "upper").mkdir(0o755)
    (place / "work").mkdir()
    options = [("lowerdir+", layer) for layer in reversed(layers)]
    options += [("upperdir", str(place / "upper")), ("workdir", str(place / "work"))]
    fd = mounts.new_filesystem("overlay", options, source="overlay")
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def dockers_layers(docker: Dockerd) -> list[str]:
    data = docker.inspect(_IMAGE)["GraphDriver"]["Data"]
    return [data["UpperDir"], *filter(None, data.get("LowerDir", "").split(":"))][::-1]


async def unpacked(layers: list[bytes], place: Path) -> list[str]:
    """The layers' directories."""
    made = []
    for number, layer in enumerate(layers):
        root, blob = place / f"fs-{number}", place / f"blob-{number}"
        root.mkdir(0o755)
        blob.write_bytes(layer)
        await unpack(str(blob), "", str(root), Limits(), SLOW, diff_id=None)
        made.append(str(root))
    return made


async def indexed(layers: list[bytes], place: Path, stack: ExitStack) -> list[int]:
    """The mounts of the layers."""
    made = []
    for number, layer in enumerate(layers):
        beside, blob = place / f"index-{number}", place / f"archive-{number}"
        beside.mkdir()
        blob.write_bytes(layer)
        assert not (await index_blob(str(blob), str(beside), Limits(), diff_id=Digest.of(layer))).unindexable
        made.append(erofs.mount_layer(str(beside / INDEX_FILE), str(blob)))
        stack.callback(os.close, made[-1])
    return made


def problems(case: Case, what: str, theirs: Tree, ours: Tree, *, layer: bool) -> list[str]:
    """Every difference that nobody has explained, as text."""
    known = (*case.differences, *(OF_ALL if layer else ()))
    return [
        f"{what}: {os.fsdecode(path)[:200]!r}: {fact}: dockerd {left}, Teul {right}"
        for path, fact, left, right in differences(theirs, ours)
        if not any(difference.explains(path, fact) for difference in known)
        # The container's own top directory has the time of the container's start.
        and (path, fact) != (b".", "mtime")
    ]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.docker_refuses and not case.teul_refuses])
async def test_layers_are_as_dockerd_unpacks_them(docker: Dockerd, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    docker.load(saved_image(*case.layers))
    theirs = dockers_layers(docker)
    assert len(theirs) == len(case.layers)
    found: list[str] = []
    with ExitStack() as stack:
        directories = await unpacked(case.layers, tmp_path)
        ways: dict[str, list[Any]] = {"unpacked": [*directories]}
        if not erofs.refusal(str(tmp_path)):
            ways["indexed"] = [*(await indexed(case.layers, tmp_path, stack))]
        whole = tree(stack.enter_context(merged([*theirs], tmp_path / "theirs")))
        used = set()
        for way, ours in ways.items():
            for number, (left, right) in enumerate(zip(theirs, ours, strict=True)):
                left_tree, right_tree = tree(left), tree(right if isinstance(right, str) else f"/proc/self/fd/{right}")
                found += problems(case, f"layer {number}, {way}", left_tree, right_tree, layer=True)
                used |= {(path, fact) for path, fact, _, _ in differences(left_tree, right_tree)}
            merged_tree = tree(stack.enter_context(merged(ours, tmp_path / way)))
            found += problems(case, f"all layers, {way}", whole, merged_tree, layer=False)
            used |= {(path, fact) for path, fact, _, _ in differences(whole, merged_tree)}
    found += [f"no difference any more: {known}" for known in case.differences if not any(known.explains(*one) for one in used)]
    assert not found, "\n" + "\n".join(found[:50])
    check_export(docker, whole)


def check_export(docker: Dockerd, whole: Tree) -> None:
    """What a client is given of a container of dockerd's has the same names and owners: the comparison was with the right directories."""
    container = docker.must("create", _IMAGE, "none")
    try:
        with docker.api() as api:
            data = api.expect(200, "GET", f"/containers/{container}/export").body
    finally:
        docker.must("rm", container)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        exported = {os.fsencode(info.name.rstrip("/")): info for info in tar}
    assert exported.keys() - _INIT == {path for path, facts in whole.items() if facts != LISTED_ONLY} - _INIT
    for path in exported.keys() - _INIT:
        info, facts = exported[path], whole[path]
        assert (info.uid, info.gid) == facts["owner"], path
        assert _TYPES[info.type] in (None, facts["kind"]), path
        assert info.issym() or oct(stat.S_IMODE(info.mode)) == facts["mode"], path


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.docker_refuses or case.teul_refuses])
async def test_what_one_of_the_two_refuses(docker: Dockerd, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    output = docker.docker("load", stdin=saved_image(*case.layers))
    assert bool(output.exit_code) == bool(case.docker_refuses), output
    assert case.docker_refuses in output.stderr + output.stdout
    with ExitStack() as stack:
        for way in (lambda: unpacked(case.layers, tmp_path), lambda: indexed(case.layers, tmp_path, stack)):
            if not case.teul_refuses:
                await way()
                continue
            with pytest.raises(InvalidArchive) as refused:
                await way()
            assert case.teul_refuses in refused.value.message


def test_every_difference_has_its_reason() -> None:
    for name, case in CASES.items():
        assert all(difference.reason for difference in case.differences), name
        assert case.reason or bool(case.docker_refuses) == bool(case.teul_refuses), name
