"""Loading, importing, naming and removing images: rows and files are both there or both not."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from faults.judge import assert_whole
from faults.victim import Victim, cases, small_image
from support import images
from support.needs import needs
from support.registry import FakeRegistry, serving, stock
from support.unix_http import Response

pytestmark = [needs("root", "busybox", "overlayfs")]

_HIT = small_image("hit:1", extra=[b"one", b"two"])


def _was_told(response: Response | None) -> bool:
    """Whether success was: docker tells of what goes wrong with an archive in band."""
    return response is not None and response.status in {200, 201} and b'"error"' not in response.body


def _is_there(victim: Victim, name: str) -> bool:
    response = victim.ask("GET", f"/images/{name}/json")
    assert response is not None
    return response.status == 200


def _assert_usable(victim: Victim, name: str) -> None:
    """A container can be made of the image, which can be removed then, and all of it goes."""
    victim.want(201, "POST", "/containers/create?name=user", {"Image": name, "Cmd": ["sh", "-c", "exit 0"]})
    victim.want(204, "POST", "/containers/user/start")
    assert victim.want(200, "POST", "/containers/user/wait").json()["StatusCode"] == 0
    victim.want(204, "DELETE", "/containers/user")
    victim.want(200, "DELETE", f"/images/{name}")
    assert not _is_there(victim, name)
    assert_whole(victim)


@cases(
    {
        "images.load.received": "kill cancel error",
        "images.load.unpacked": "kill cancel error",
        "images.commit.blob": "kill error kill@2 error@2",
        "images.commit.layer": "kill error kill@2 error@2",
        "images.commit.synced": "kill error",
        "store.transaction.worked": "kill full",
        "images.commit.recorded": "kill cancel",
    },
)
def test_image_is_loaded_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    response = victim.strike(point, way, "POST", "/images/load", _HIT.docker_archive(), occurrence=occurrence)
    assert_whole(victim)
    if _was_told(response):
        assert _is_there(victim, "hit:1")
    if not _is_there(victim, "hit:1"):
        victim.load(_HIT.docker_archive())
    _assert_usable(victim, "hit:1")


@cases(
    {
        "images.import.unpacked": "kill cancel error",
        "images.commit.layer": "kill error",
        "images.commit.recorded": "kill cancel",
    },
)
def test_image_is_imported_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    root = images.rootfs()
    response = victim.strike(point, way, "POST", "/images/create?fromSrc=-&repo=hit&tag=1", root, occurrence=occurrence)
    assert_whole(victim)
    if _was_told(response):
        assert _is_there(victim, "hit:1")
    if not _is_there(victim, "hit:1"):
        assert _was_told(victim.ask("POST", "/images/create?fromSrc=-&repo=hit&tag=1", root))
    _assert_usable(victim, "hit:1")


@cases(
    {
        "images.pull.received": "kill cancel error kill@2",
        "images.pull.made": "kill cancel error",
        "images.commit.layer": "kill error",
        "images.commit.recorded": "kill cancel",
    },
)
def test_image_is_pulled_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    with serving(FakeRegistry()) as registry:
        stock(registry, _HIT, "hit")
        pull = f"/images/create?fromImage={registry.host}/hit&tag=1"
        response = victim.strike(point, way, "POST", pull, occurrence=occurrence)
        assert_whole(victim)
        name = f"{registry.host}/hit:1"
        if _was_told(response):
            assert _is_there(victim, name)
        if not _is_there(victim, name):
            assert _was_told(victim.ask("POST", pull))
        _assert_usable(victim, name)


@cases(
    {
        "images.tag.recorded": "kill cancel",
        "store.transaction.worked": "kill full",
    },
)
def test_image_is_named_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.load(_HIT.docker_archive())
    response = victim.strike(point, way, "POST", "/images/hit:1/tag?repo=other&tag=1", occurrence=occurrence)
    assert_whole(victim)
    assert _is_there(victim, "other:1") or not _was_told(response)
    victim.want(201, "POST", "/images/hit:1/tag?repo=other&tag=1")
    victim.want(200, "DELETE", "/images/other:1")
    _assert_usable(victim, "hit:1")


@cases(
    {
        "images.untag.recorded": "kill cancel",
        "store.transaction.worked": "kill full kill@2 full@2 kill@3 full@3",
        "images.delete.recorded": "kill cancel",
        "images.delete.blobs": "kill cancel",
        "snapshots.remove.aside": "kill",
    },
)
def test_image_is_removed_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.load(_HIT.docker_archive())
    response = victim.strike(point, way, "DELETE", "/images/hit:1", occurrence=occurrence)
    assert_whole(victim)
    if _was_told(response):
        assert not _is_there(victim, "hit:1")
    victim.load(_HIT.docker_archive())  # a name may be gone and its image there: then it comes back
    assert _is_there(victim, _HIT.image_id)
    _assert_usable(victim, "hit:1")


@cases({"images.delete.recorded": "kill", "store.transaction.worked": "kill@2"})
def test_image_that_was_removed_by_force_goes_with_its_last_container(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.load(_HIT.docker_archive())
    victim.create("user", Image="hit:1")
    victim.want(200, "DELETE", "/images/hit:1?force=1")
    victim.strike(point, way, "DELETE", "/containers/user", occurrence=occurrence)
    assert_whole(victim)
    assert not _is_there(victim, _HIT.image_id)
    assert len(list((victim.root / "snapshots").iterdir())) == 1, "its own layers went, and the one that it shares stayed"


@cases(
    {
        "store.transaction.worked": "kill full",
        "images.delete.recorded": "kill cancel",
        "images.delete.blobs": "kill cancel",
        "snapshots.remove.aside": "kill",
    },
)
def test_platform_is_removed_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    other = small_image(extra=[b"other", b"one"])
    archive = images.multi_platform_archive("docker.io/library/many:1", {"amd64": _HIT, "s390x": other})
    victim.load(archive)
    platform = quote('{"os":"linux","architecture":"s390x"}')
    removal = f"/images/many:1?platforms={platform}"
    response = victim.strike(point, way, "DELETE", removal, occurrence=occurrence, version="v1.50")
    assert_whole(victim)
    again = victim.ask("DELETE", removal, version="v1.50")
    assert again is not None
    assert again.status == 404 if _was_told(response) else again.status in {200, 404}
    assert_whole(victim)
    _assert_usable(victim, "many:1")


@cases({"snapshots.exchange.file": "kill error kill@2", "images.repair.removed": "kill error"})
def test_layer_is_repaired_or_can_be(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """Of a repair that was broken off the next one finds what is left to do, and of the image nothing is lost."""
    victim.load(_HIT.oci_archive("gzip"))
    archive = max((victim.root / "snapshots").glob("*/layer.tar"), key=lambda path: path.stat().st_mtime_ns, default=None)
    if archive is None:
        pytest.skip("layers are unpacked here")
    if point == "images.repair.removed":
        archive.with_name("index.erofs").unlink()
        archive.unlink()
    else:
        data = bytearray(archive.read_bytes())
        data[600] ^= 1
        archive.write_bytes(bytes(data))
    victim.strike(point, way, "POST", "/teul/system/check?repair=1", occurrence=occurrence)
    assert victim.want(200, "POST", "/teul/system/check?repair=1").body.count(b'"repaired":""') == 0
    assert b'"damaged":0' in victim.want(200, "POST", "/teul/system/check").body
    assert_whole(victim)
    _assert_usable(victim, "hit:1")
