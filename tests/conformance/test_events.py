"""Everything that is told as an event, done once on both engines: the same events come, with the same attributes, in the same order."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.unix_http import Client

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]

CONTAINERS = (
    "create --name box --label a=b -m 64m busybox sleep 1000",
    "rename box case",
    "start case",
    "top case",
    "exec case true",
    "exec -d case true",
    "pause case",
    "unpause case",
    "update --cpu-shares 512 case",
    "cp case:/etc/passwd {files}/passwd",
    "cp {files}/passwd case:/etc/passwd",
    "export -o {files}/export.tar case",
    "kill -s CONT case",
    "stop -t 0 case",
    "restart -t 0 case",
    "kill case",
    "logs case",
    "diff case",
    "wait case",
    "rm -v case",
    "run --rm --name short busybox false || true",
    "run -d --name healthy --health-cmd true --health-interval 2s busybox sleep 1000",
    "rm -f healthy",
    "create --name never busybox /no/such/program",
    "start never || true",
    "container prune -f",
)
IMAGES = (
    "tag busybox other:1",
    "save -o {files}/saved.tar other:1",
    "rmi other:1",
    "load -i {files}/saved.tar",
    "rmi other:1",
    "import {files}/rootfs.tar made:1",
    "rmi made:1",
    "tag busybox another:1",
    "image prune -f",
    "rmi another:1",
)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[DockerHost, DockerHost]]:
    with Dockerd() as dockerd, Engine() as teul:
        for host in (dockerd, teul):
            host.load(images.busybox().docker_archive())
        yield dockerd, teul


@pytest.mark.parametrize("steps", [CONTAINERS, IMAGES], ids=["containers", "images"])
def test_events(hosts: tuple[DockerHost, DockerHost], steps: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(images.rootfs())
    told = [tell(host, steps, tmp_path) for host in hosts]
    assert told[1] == told[0]


def test_a_terminal_and_its_size(hosts: tuple[DockerHost, DockerHost]) -> None:
    """What the command line does with a terminal, asked for by hand."""
    told = []
    for host in hosts:
        since = now()
        with Client(str(host.socket_path)) as api:
            host.must("run", "-dit", "--name", "sized", "busybox", "sh")
            api.expect(200, "POST", "/containers/sized/resize?h=24&w=80")
            exec_id = api.expect(201, "POST", "/containers/sized/exec", {"Cmd": ["sleep", "1000"], "Tty": True}).json()["Id"]
            api.expect(200, "POST", f"/exec/{exec_id}/start", {"Detach": True, "Tty": True})
            api.expect(200, "POST", f"/exec/{exec_id}/resize?h=24&w=80")
            host.must("rm", "-f", "sized")
        told.append(read(host, since))
    assert told[1] == told[0]


def tell(host: DockerHost, steps: tuple[str, ...], files: Path) -> list[str]:
    since = now()
    for step in steps:
        command = step.format(files=files).removesuffix(" || true")
        if command != step.format(files=files):
            host.docker(*shlex.split(command))
        else:
            host.must(*shlex.split(command))
        if step.startswith("run -d --name healthy"):
            eventually(lambda: host.inspect("healthy")["State"]["Health"]["Status"] == "healthy", "health")
        if step.startswith("exec -d"):
            eventually(lambda: "exec_die" in read(host, since)[-1], "end of the exec")
    return read(host, since)


def now() -> str:
    return f"{time.time():.9f}"


def read(host: DockerHost, since: str) -> list[str]:
    form = "{{.Type}} {{.Action}} {{json .Actor.Attributes}}"
    lines = host.must("events", "--since", since, "--until", now(), "--format", form).splitlines()
    return [plain(line) for line in lines if not line.startswith("network ")]


def plain(line: str) -> str:
    kind, rest = line.split(" ", 1)
    action, _, attributes = rest.partition(" {")
    document = json.loads("{" + attributes)
    text = f"{kind} {action.rstrip()} {json.dumps(document, sort_keys=True)}"
    text = re.sub("[0-9a-f]{64}", "<id>", text)
    return re.sub('"execDuration": "[0-9]+", |"execID": "<id>"', "", text)
