"""`docker cp` keeps what dockerd keeps of links, times, owners, modes and attributes, into a container and out of it again."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "dockerd", "docker_cli", "busybox", "overlayfs")]

REGULAR, DIRECTORY, SYMLINK, LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
CAPABILITY = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20" + "\x00" * 14}


def entry(name: str, kind: bytes = REGULAR, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    data: bytes = more.pop("data", b"data" if kind == REGULAR else b"")
    member.type, member.size, member.mtime = kind, len(data), 900_000_000
    for attribute, value in more.items():
        setattr(member, attribute, value)
    return member, data


ENTRIES = [
    entry("tree", DIRECTORY, mode=0o2751, uid=3, gid=4, mtime=900_000_001),
    entry("tree/file", mode=0o4755, uid=1, gid=2, mtime=900_000_002),
    entry("tree/hard", LINK, linkname="tree/file", mode=0o2644, uid=5, gid=6, mtime=900_000_003),
    entry("tree/link", SYMLINK, linkname="file", mode=0o600, uid=7, gid=8, mtime=900_000_004),
    entry("tree/dangling", SYMLINK, linkname="/no/where", uid=7, gid=8, mtime=900_000_005),
    entry("tree/hard-link-to-link", LINK, linkname="tree/link", uid=9, gid=10, mtime=900_000_006),
    entry("tree/device", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666, uid=11, gid=12, mtime=900_000_007),
    entry("tree/fifo", tarfile.FIFOTYPE, mode=0o1600, uid=13, gid=14, mtime=900_000_008),
    # Mode and time as the other name has them: those of nodes that are no new files are not set here.
    entry("tree/hard-fifo", LINK, linkname="tree/fifo", mode=0o1600, uid=15, gid=16, mtime=900_000_008),
    entry("tree/capable", mode=0o755, pax_headers=CAPABILITY),
    entry("tree/less-capable", mode=0o755, pax_headers=CAPABILITY),
    entry("tree/hard-less-capable", LINK, linkname="tree/less-capable", mode=0o700, uid=1),
    entry("tree/still-capable", mode=0o755, pax_headers=CAPABILITY),
    entry("tree/hard-still-capable", LINK, linkname="tree/still-capable", mode=0o700, uid=1, pax_headers=CAPABILITY),
    entry("tree/sticky", DIRECTORY, mode=0o1777, uid=1, mtime=900_000_010),
    entry("tree/future", mtime=4_102_444_800),
    entry("tree/before-1970", mtime=-86_400),
    entry("tree/fraction", mtime=900_000_000.25),
    entry("not/in/the/archive", mtime=900_000_011),
]


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as members:
        for member, data in ENTRIES:
            members.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[DockerHost, DockerHost]]:
    with Dockerd() as dockerd, Engine() as engine:
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
        yield dockerd, engine
        engine.remove_containers()
        dockerd.remove_containers()


def described(data: bytes, top: str) -> dict[str, tuple[object, ...]]:
    """The members below `top` in their order, without what older dockerds add: names of users, and the file's type in the mode."""
    with tarfile.open(fileobj=io.BytesIO(data)) as members:
        return {
            member.name: (
                *(member.type, member.mode & 0o7777, member.uid, member.gid, member.size, member.linkname, _time(member)),
                *(member.devmajor, member.devminor, sorted(item for item in member.pax_headers.items() if "xattr" in item[0])),
            )
            for member in members
            if top in member.name
        }


def _time(member: tarfile.TarInfo) -> object:
    """Of what was copied; not of what the engine made itself just now."""
    return member.mtime if not 1_500_000_000 < member.mtime < 4_000_000_000 else "now"


def copied(host: DockerHost, destination: str, *options: str) -> list[dict[str, tuple[object, ...]]]:
    """What `docker cp` out of the container, and `docker export`, have of what was copied into it."""
    host.must("create", "--name", "box", "busybox", "true")
    try:
        done = subprocess.run(
            ["docker", "cp", *options, "-", f"box:{destination}"], input=archive(), env=host.environment(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        out = [["docker", "cp", f"box:{destination.rstrip('/')}/tree", "-"], ["docker", "export", "box"]]
        return [described(subprocess.run(it, env=host.environment(), capture_output=True, check=True).stdout, "tree") for it in out]
    finally:
        host.must("rm", "-f", "box")


@pytest.mark.parametrize("options", [(), ("-a",)], ids=["", "archive"])
@pytest.mark.parametrize("destination", ["/tmp", "/"])
def test_both_keep_the_same(hosts: tuple[DockerHost, DockerHost], destination: str, options: tuple[str, ...]) -> None:
    docker, teul = (copied(host, destination, *options) for host in hosts)
    differences = [
        (name, was, now.get(name)) for old, now in zip(docker, teul, strict=True) for name, was in old.items() if now.get(name) != was
    ]
    assert not differences
    assert [list(members) for members in teul] == [list(members) for members in docker]
    assert len(docker[0]) == sum(member.name.startswith("tree") for member, _ in ENTRIES)
