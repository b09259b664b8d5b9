"""What `docker system df` says is what the disk says, and what a removal gives back."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from support import images
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.store.tree_size import blocks_of_tree

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

# Besides images, containers' files and volumes' data: directories, and what is on its way out.
_OTHER_BYTES = 1 << 20
_CHATTER = (
    "for place in '3 /rw' '2 /named/file' '1 /own/file'; do set -- $place; dd if=/dev/urandom of=$2 bs=1M count=$1; done; "
    "yes 'something to say, again and again and again' | head -c 3000000"
)


def _usage(engine: Engine) -> Any:
    with engine.api() as api:
        return api.expect(200, "GET", "/system/df").json()


def _disk_bytes(engine: Engine) -> int:
    """As `du -s`, without the database and the ballast, whose sizes are their own affair."""
    apart = sum(path.stat().st_blocks * 512 for path in engine.root.iterdir() if path.is_file())
    return blocks_of_tree(str(engine.root)) - apart


def _assert_equal(engine: Engine) -> None:
    document = _usage(engine)
    counted = document["LayersSize"] + sum(container["SizeRw"] for container in document["Containers"])
    counted += sum(volume["UsageData"]["Size"] for volume in document["Volumes"] or ())
    assert 0 <= _disk_bytes(engine) - counted < _OTHER_BYTES, document


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_df_is_du(fresh_engine: Engine, compression: str) -> None:
    """Both with layers that are one file with their blobs and with those that are kept as they came besides; and shared layers count once."""
    engine = fresh_engine
    _assert_equal(engine)
    noise = [images.pack([images.file("noise", os.urandom(3 << 20))]), images.pack([images.file("more", os.urandom(5 << 20))])]
    base = images.busybox()
    one = images.Image(("one:1",), (*base.layers, noise[0]), base.config)
    two = images.Image(("two:1",), (*base.layers, noise[0], noise[1]), base.config)
    for image in (one, two):
        engine.load(image.oci_archive(compression))
    _assert_equal(engine)
    engine.must("run", "--name", "writer", "one:1", "dd", "if=/dev/urandom", "of=/data", "bs=1M", "count=7")
    _assert_equal(engine)
    document = _usage(engine)
    [writer] = document["Containers"]
    assert writer["SizeRw"] >= 7 << 20
    assert writer["SizeRootFs"] > writer["SizeRw"]
    found = {name: image for image in document["Images"] for name in image["RepoTags"]}
    assert (found["one:1"]["Containers"], found["two:1"]["Containers"]) == (1, 0)
    unique = found["two:1"]["Size"] - found["two:1"]["SharedSize"]
    assert unique >= 5 << 20
    before = _disk_bytes(engine)
    engine.must("rmi", "two:1")
    assert abs(before - _disk_bytes(engine) - unique) < 64 << 10, "what an image has for itself is what its removal gives back"
    _assert_equal(engine)
    engine.must("rm", "writer")
    engine.must("rmi", "one:1")
    _assert_equal(engine)


def test_logs_and_volumes_are_counted(fresh_engine: Engine) -> None:
    """A log may be the largest thing that a container has. What its removal gives back is what was said of it."""
    engine = fresh_engine
    engine.must("run", "--name", "chatty", "-v", "/own", "-v", "named:/named", "busybox", "sh", "-c", _CHATTER)
    _assert_equal(engine)
    document = _usage(engine)
    [chatty] = document["Containers"]
    log = next(engine.root.glob("containers/*/*-json.log"))
    assert log.stat().st_size > 4 << 20
    assert chatty["SizeRw"] >= (3 << 20) + log.stat().st_blocks * 512
    sizes = {volume["Name"]: volume["UsageData"]["Size"] for volume in document["Volumes"]}
    assert (2 << 20) <= sizes.pop("named") < (3 << 20)
    [own] = sizes.values()
    assert (1 << 20) <= own < (2 << 20)
    assert (3 << 20) <= int(engine.must("inspect", "-s", "--format", "{{.SizeRw}}", "chatty")) < (4 << 20), (
        "docker: of the log nothing is said there"
    )
    before = _disk_bytes(engine)
    engine.must("rm", "-v", "chatty")
    eventually(lambda: abs(before - _disk_bytes(engine) - chatty["SizeRw"] - own) < 64 << 10, "it is given back")
    _assert_equal(engine)


def test_docker_shows_it(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.must("run", "--name", "used", "busybox", "dd", "if=/dev/zero", "of=/data", "bs=1M", "count=2")
    lines = engine.must("system", "df", "--format", "{{json .}}").splitlines()
    rows = {row["Type"]: row for row in map(json.loads, lines)}
    assert (rows["Images"]["TotalCount"], rows["Images"]["Active"]) == ("2", "1")
    assert (rows["Containers"]["TotalCount"], rows["Containers"]["Active"]) == ("1", "0")
    assert rows["Containers"]["Size"] == rows["Containers"]["Reclaimable"].split()[0] != "0B"
    assert (rows["Local Volumes"]["TotalCount"], rows["Build Cache"]["TotalCount"]) == ("0", "0")
    verbose = engine.must("system", "df", "-v")
    assert re.search(r"^busybox +latest .* [0-9.]+[kMG]B +[0-9.]+[kMG]?B +[0-9.]+[kMG]?B +1$", verbose, re.MULTILINE), verbose
    assert re.search(r'^[0-9a-f]{12} +busybox +"dd .* 2\.\d*MB .* used$', verbose, re.MULTILINE), verbose


def test_a_platform_is_removed(fresh_engine: Engine) -> None:
    engine = fresh_engine
    base = images.busybox()
    other = images.Image((), (*base.layers, images.pack([images.file("noise", os.urandom(4 << 20))])), base.config)
    engine.load(images.multi_platform_archive("docker.io/library/many:1", {"amd64": base, "s390x": other}))
    before = _disk_bytes(engine)
    engine.must("create", "--name", "user", "many:1")
    refused = engine.docker("rmi", "--platform", "linux/amd64", "many:1")
    assert refused.exit_code == 1
    assert "conflict: unable to remove repository reference" in refused.stderr
    assert engine.must("rmi", "-f", "--platform", "linux/s390x", "many:1").startswith("Deleted: sha256:")
    assert before - _disk_bytes(engine) > 4 << 20
    assert engine.must("run", "--rm", "many:1", "echo", "works") == "works"
    assert "does not match the specified platform" in engine.docker("rmi", "-f", "--platform", "linux/s390x", "many:1").stderr
    engine.must("rm", "user")
    assert "Untagged: many:1" in engine.must("rmi", "--platform", "linux/amd64", "many:1")
    assert engine.docker("inspect", "many:1").exit_code == 1
