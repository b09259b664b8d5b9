"""docker-py's volumes, unchanged: what its objects say and do is the same with both engines."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from docker.errors import APIError
from docker.types import DriverConfig, Mount

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "dockerd", "busybox", "overlayfs")]


Hosts = list[tuple[DockerHost, docker.DockerClient]]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Dockerd() as dockerd, Engine() as teul:
        pairs: list[tuple[DockerHost, docker.DockerClient]] = []
        for host in (dockerd, teul):
            host.load(images.busybox().docker_archive())
            pairs.append((host, docker.DockerClient(base_url=f"unix://{host.socket_path}", version="1.41", timeout=60)))
        yield pairs
        for _, client in pairs:
            client.close()


def volume_objects(client: docker.DockerClient) -> Any:
    made = client.volumes.create(name="data", driver="local", labels={"a": "b"})
    again = client.volumes.create("data")
    client.volumes.create("mounted", driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    nameless = client.volumes.create()
    listed = sorted(volume.name for volume in client.volumes.list() if len(volume.name) < 64)
    chosen = [volume.name for volume in client.volumes.list(filters={"label": "a=b"})]
    attributes = {key: made.attrs[key] for key in ("Driver", "Labels", "Name", "Options", "Scope")}
    told = [made == again, listed, chosen, attributes, client.volumes.get("mounted").attrs["Options"], len(nameless.name)]
    nameless.remove()
    made.remove(force=True)
    return [*told, refusal(lambda: client.volumes.get("data")), client.volumes.prune()["VolumesDeleted"]]


def a_container_with_volumes(client: docker.DockerClient) -> Any:
    """By name, by mount objects of every kind, and those of another container."""
    mounts = [
        Mount("/volume", "by-mount", type="volume", labels={"of": "mount"}, driver_config=DriverConfig("local")),
        Mount("/bind", "/usr", type="bind", read_only=True, propagation="rprivate"),
        Mount("/empty", "not-filled", type="volume", no_copy=True),
    ]
    command = ["sh", "-c", "echo kept > /named/file; echo also > /volume/file; touch /bind/x"]
    first = client.containers.run(
        "busybox", command, name="first", detach=True, volumes={"by-name": {"bind": "/named", "mode": "rw"}}, mounts=mounts
    )
    first.wait()
    shown = sorted((each["Type"], each.get("Name", ""), each["Destination"], each["Mode"], each["RW"]) for each in first.attrs["Mounts"])
    read = [
        "sh",
        "-c",
        "cat /named/file /volume/file; (echo no > /named/file) 2> /memory/refusal; cat /memory/refusal; df -k /memory | tail -1 | awk '{print $2}'",
    ]
    memory = Mount("/memory", None, type="tmpfs", tmpfs_size="1m", tmpfs_mode=0o1777)
    second = client.containers.run("busybox", read, name="second", detach=True, volumes_from=["first:ro"], mounts=[memory])
    second.wait()
    in_use = refusal(lambda: client.volumes.get("by-name").remove())
    told = [shown, first.logs(), second.logs(), in_use]
    for container in (first, second):
        container.remove(v=True)
    return [*told, sorted(volume.name for volume in client.volumes.list())]


def archives_through_a_volume(client: docker.DockerClient) -> Any:
    container = client.containers.create("busybox", ["cat", "/kept/inside/file"], volumes={"archive": {"bind": "/kept", "mode": "rw"}})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("inside/file")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"text\n"))
    put = container.put_archive("/kept", buffer.getvalue())
    container.start()
    container.wait()
    chunks, found = container.get_archive("/kept/inside/file")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        members = [(each.name, each.size) for each in archive]
    missing = refusal(lambda: container.get_archive("/kept/nothing"))
    told = [put, container.logs(), {key: (found or {})[key] for key in ("name", "size")}, members, missing]
    container.remove(v=True)
    return told


def refusal(ask: Callable[[], object]) -> tuple[int | None, str]:
    with pytest.raises(APIError) as refused:
        ask()
    return refused.value.status_code, re.sub("[0-9a-f]{64}", "<id>", str(refused.value.explanation))


@pytest.mark.parametrize("scene", [volume_objects, a_container_with_volumes, archives_through_a_volume])
def test_volumes(hosts: Hosts, scene: Callable[[docker.DockerClient], Any]) -> None:
    told = []
    for host, client in hosts:
        told.append(scene(client))
        host.remove_containers()
        client.volumes.prune()
    assert told[1] == told[0]
