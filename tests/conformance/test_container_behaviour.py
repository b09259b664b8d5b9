"""What containers do, and are seen to do, beside a real dockerd."""

from __future__ import annotations

import io
import json
import re
import shlex
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.unix_http import Client

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]

# Nothing but a program: no directory of an ordinary root.
BARE = images.Image(("bare:latest",), (images.pack([images.file("busybox", images.BUSYBOX.read_bytes(), 0o755)]),), {"Env": [images.PATH]})
TRAPPING = 'run -d --name box busybox sh -c \'trap "echo term; exit 3" TERM; trap "echo hup" HUP; while :; do sleep 0.1; done\''


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[DockerHost, DockerHost]]:
    with Dockerd() as dockerd, Engine() as engine:
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
            host.load(BARE.docker_archive())
        yield dockerd, engine


@pytest.fixture
def hosts(both: tuple[DockerHost, DockerHost]) -> Iterator[tuple[DockerHost, DockerHost]]:
    yield both
    for host in both:
        host.remove_containers()


def docker(host: DockerHost, command: str) -> str:
    return host.must(*shlex.split(command))


def status(host: DockerHost, name: str) -> str:
    return host.must("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)


def has_become(host: DockerHost, name: str, wanted: str) -> bool:
    return status(host, name) == wanted


@pytest.mark.parametrize(("signal", "end"), [("TERM", "exited 3"), ("HUP", "running 0")])
def test_a_paused_container_goes_on_to_get_a_signal(hosts: tuple[DockerHost, DockerHost], signal: str, end: str) -> None:
    for host in hosts:
        docker(host, TRAPPING)
        docker(host, "pause box")
        docker(host, f"kill -s {signal} box")
        eventually(partial(has_become, host, "box", end), "it has got the signal")
        assert eventually(partial(docker, host, "logs box"), "it says so") == signal.lower()


def test_a_paused_container_that_is_stopped_by_another_signal_stays_so(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        docker(host, "run -d --name box --stop-signal USR1 busybox sleep 100000")
        docker(host, "pause box")
        docker(host, "kill -s HUP box")
        assert status(host, "box") == "paused 0"


@pytest.mark.parametrize("condition", ["next-exit", "removed", "not-running"])
def test_a_removal_is_an_end_to_whoever_waits(hosts: tuple[DockerHost, DockerHost], condition: str) -> None:
    for host in hosts:
        key = docker(host, "create busybox true")
        said: list[object] = []

        def wait(host: DockerHost = host, key: str = key, said: list[object] = said) -> None:
            with host.api() as api:
                # Nobody can see that a wait has begun; where it begins after the removal, the container is not found.
                answer = api.request("POST", f"/containers/{key}/wait?condition={condition}")
                said.append(answer.json().get("StatusCode", answer.status))

        waiter = threading.Thread(target=wait)
        waiter.start()
        try:
            waiter.join(0.3)
        finally:
            docker(host, f"rm {key}")
            waiter.join(20)
        assert said == [0]


def test_a_working_directory_is_made_in_a_read_only_root(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        assert docker(host, "run --rm --read-only -w /new/place -u 7 busybox sh -c 'pwd; stat -c %u:%g:%a . ..'") == (
            "/new/place\n0:0:755\n0:0:755"
        )
        assert host.docker("run", "--rm", "--read-only", "-w", "/new", "busybox", "touch", "file").stderr.strip() == (
            "touch: file: Read-only file system"
        )


def test_a_bind_of_the_hosts_proc_takes_the_place_of_the_containers(hosts: tuple[DockerHost, DockerHost]) -> None:
    """Parameters are those of the container's namespaces all the same."""
    for host in hosts:
        command = [
            "run",
            "--rm",
            "--sysctl",
            "net.core.somaxconn=77",
            "-v",
            "/proc:/proc",
            "busybox",
            "cat",
            "/proc/sys/net/core/somaxconn",
        ]
        assert host.must(*command) == "77"


def members(archive: bytes) -> dict[str, tuple[bytes, str]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name.removeprefix("./").rstrip("/"): (member.type, member.linkname) for member in tar.getmembers()}


def test_containers_have_what_tools_look_for_and_it_is_no_change_of_theirs(hosts: tuple[DockerHost, DockerHost]) -> None:
    seen = []
    for host in hosts:
        host.must("create", "--name", "bare", "--entrypoint", "/busybox", "bare", "stat", "-c", "%a %F %N", "/.dockerenv", "/etc/mtab")
        with host.api() as api:
            exported = members(api.expect(200, "GET", "/containers/bare/export").body)
            copied = members(api.expect(200, "GET", "/containers/bare/archive?path=/.dockerenv").body)
        before = docker(host, "diff bare")
        stat = docker(host, "start -a bare")
        after = docker(host, "diff bare")
        docker(host, "commit bare committed")
        layers = json.loads(docker(host, "image inspect -f '{{json .RootFS.Layers}}' committed"))
        docker(host, "rmi committed")
        seen.append((exported, copied, before, stat, after, len(layers)))
    assert seen[1] == seen[0]
    assert {".dockerenv", "etc/mtab", "etc/hosts", "dev/console", "proc", "sys", "busybox"} <= seen[1][0].keys()
    assert (seen[1][2], seen[1][4]) == ("", "")


def test_what_is_removed_of_it_is_a_change(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        docker(host, "run --name box busybox rm /.dockerenv /etc/mtab")
        assert sorted(docker(host, "diff box").splitlines()) == ["C /etc", "D /.dockerenv", "D /etc/mtab"]


def test_an_ipc_namespace_is_shared_with_its_memory(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        docker(host, "run -d --name donor --ipc shareable --shm-size 1m busybox sleep 100000")
        docker(host, "run --rm --ipc container:donor -u 7 busybox sh -c 'echo shared > /dev/shm/file'")
        assert docker(host, "exec donor cat /dev/shm/file") == "shared"
        look = "readlink /proc/self/ns/ipc; grep ' /dev/shm ' /proc/self/mountinfo | cut -d' ' -f6-"
        theirs = host.must("exec", "donor", "sh", "-c", look)
        assert host.must("run", "--rm", "--ipc", "container:donor", "busybox", "sh", "-c", look) == theirs
        assert host.must("run", "--rm", "busybox", "readlink", "/proc/self/ns/ipc") != theirs.splitlines()[0]


def test_a_container_of_the_clients_own_memory_keeps_that(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        docker(host, "run -d --name donor --ipc shareable busybox sleep 100000")
        look = "run --rm --ipc container:donor --tmpfs /dev/shm:size=64k busybox sh -c 'df -k /dev/shm | tail -n 1'"
        assert docker(host, look).split()[1] == "64"


@pytest.mark.parametrize("word", ["shared", "rshared", "slave", "private"])
def test_memory_may_have_a_propagation(hosts: tuple[DockerHost, DockerHost], word: str) -> None:
    seen = []
    for host in hosts:
        look = "grep ' /memory ' /proc/self/mountinfo | cut -d' ' -f5-7"
        fields = host.must("run", "--rm", "--tmpfs", f"/memory:{word}", "busybox", "sh", "-c", look)
        seen.append(re.sub(r"shared:\d+", "shared", fields))
    assert seen[1] == seen[0]
    assert ("shared" in seen[1]) == ("shared" in word)


def test_an_exec_that_has_ended_has_had_a_process(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        docker(host, "run -d --name box busybox sleep 100000")
        with host.api() as api:
            key = api.expect(201, "POST", "/containers/box/exec", {"Cmd": ["true"]}).json()["Id"]
            api.expect(200, "POST", f"/exec/{key}/start", {"Detach": True})
            ended = eventually(partial(ended_exec, api, key), "the exec has ended")
        assert ended["ExitCode"] == 0
        assert ended["Pid"] > 0


def ended_exec(api: Client, key: str) -> dict[str, Any]:
    """What is told of an exec; nothing while it runs."""
    document: dict[str, Any] = api.expect(200, "GET", f"/exec/{key}/json").json()
    return {} if document["Running"] or document["ExitCode"] is None else document
