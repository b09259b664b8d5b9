"""Volumes of a plug-in, beside dockerd: each engine has one of its own, and both must say the same, and call the same in the same order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support import images
from support.docker_host import DockerHost, Output
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.volume_plugin import VolumePlugin, place_in

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]

NAME = "store"
HURRY = {
    "teul.plugins.registry._LOOKING_SECONDS": 0.3,
    "teul.plugins.client._PATIENCE_SECONDS": 0.3,
}


def image(name: str, volumes: dict[str, object]) -> images.Image:
    """Something to copy; `volumes` are declared."""
    tree = images.pack(
        [
            images.directory("data", 0o1771, uid=7, gid=8),
            images.file("data/file", "file", 0o640, uid=5, gid=6),
            images.directory("empty", 0o711, uid=9, gid=9),
            images.file("plain", "a file"),
        ]
    )
    base = images.busybox()
    return images.Image((f"{name}:latest",), (*base.layers, tree), {**base.config, "Volumes": volumes})


class Side:
    """One engine with its plug-in."""

    def __init__(self, host: DockerHost, plugin: VolumePlugin) -> None:
        self.host = host
        self.plugin = plugin

    def run(self, command: str) -> tuple[Output, list[tuple[str, dict[str, object]]]]:
        """What docker says, and what the plug-in was asked for. Names by chance are numbered in the order in which they come."""
        before = len(self.plugin.calls)
        output = self.host.docker(*shlex.split(command))
        calls = [(call.method, call.arguments) for call in self.plugin.calls[before:]]
        return Output(output.exit_code, self._plain(output.stdout), self._plain(output.stderr)), calls

    def _plain(self, text: str) -> str:
        text = text.replace(str(self.plugin.base), "<plugin>").replace(str(place_in(self.host.pid, NAME)), "<socket>")
        return re.sub(r"[0-9a-f]{64}", "<id>", text)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    with ExitStack() as stack:
        found = []
        for name in ("dockerd", "teul"):
            plugin = stack.enter_context(VolumePlugin(NAME, tmp_path_factory.mktemp(name)))
            if name == "dockerd":
                host: DockerHost = stack.enter_context(Dockerd())
                plugin.listen(place_in(host.pid, NAME))
            else:
                host = stack.enter_context(Engine(extra=("--plugin-directory", str(plugin.base)), hurried=HURRY))
            host.load(image("filled", {}).docker_archive())
            host.load(image("declaring", {"/data": {}}).docker_archive())
            host.load(images.busybox().docker_archive())
            found.append(Side(host, plugin))
        yield found[0], found[1]


@pytest.fixture(autouse=True)
def _clean(sides: tuple[Side, Side]) -> Iterator[None]:
    yield
    for side in sides:
        side.host.remove_containers()
        side.plugin.answers.clear()
        for name in side.host.must("volume", "ls", "-q").split():
            side.host.must("volume", "rm", name)
        assert side.plugin.volumes == {}
        assert not any(side.plugin.mounts.values())


SCENES: dict[str, list[str]] = {
    "made": [
        "volume create -d store -o a=1 -o b=2 --label l=x vol",
        "volume create -d store vol",
        "volume create vol",
        "volume create -d local vol",
        "volume inspect vol",
        "volume ls",
        "volume ls -f driver=store",
        "volume ls -f driver=local",
        "volume ls -f name=nosuch",
        "volume ls -f label=l=x",
        "volume ls -f dangling=true -q",
        "volume inspect nosuch",
        "volume rm nosuch",
        "volume rm -f nosuch",
        "volume rm vol",
        "volume rm vol",
        "volume ls",
        "volume create -d store v",
        "volume rm v",
    ],
    "local beside": [
        "volume create mine",
        "volume create -d store mine",
        "volume inspect mine -f '{{.Driver}} {{.Scope}}'",
        "volume ls",
        "volume rm mine",
    ],
    "run": [
        "run --rm --volume-driver store -v vol:/x busybox sh -c 'echo hello > /x/file'",
        "run --rm -v vol:/x busybox cat /x/file",
        "run --rm -v vol:/x:ro busybox touch /x/file",
        "run --rm -v new:/x busybox true",
        "run --rm --mount type=volume,src=vol2,dst=/x,volume-driver=store,volume-opt=k=v,volume-label=l=1 busybox touch /x/y",
        "volume inspect vol2 -f '{{json .Options}} {{json .Labels}} {{.Scope}} {{.CreatedAt}} {{json .Status}}'",
        "volume rm vol vol2 new",
    ],
    "life": [
        "create --name box --volume-driver store -v vol:/x busybox sleep 300",
        "start box",
        "inspect box -f '{{range .Mounts}}{{.Type}} {{.Name}} {{.Driver}} {{.Destination}} {{.Mode}} {{.RW}}{{end}}'",
        "volume rm vol",
        "volume rm -f vol",
        "exec box touch /x/file",
        "restart -t 0 box",
        "exec box ls /x",
        "kill box",
        "wait box",
        "start box",
        "rm -f box",
        "volume rm vol",
    ],
    "filled": [
        "run --rm --volume-driver store -v vol:/data filled ls -la /data/file",
        "run --rm --volume-driver store -v vol2:/data:nocopy filled ls /data",
        "run --rm --volume-driver store -v vol3:/nosuch filled ls /nosuch",
        "run --rm --volume-driver store -v vol4:/empty filled stat -c %a.%u /empty",
        "volume rm vol vol2 vol3 vol4",
    ],
    "anonymous": [
        "run --rm --volume-driver store declaring ls /data",
        "volume ls -q",
        "run --name box --volume-driver store -v /x busybox true",
        "rm -v box",
        "volume ls -q",
    ],
    "copied": [
        "run -d --name box --volume-driver store -v vol:/x busybox sleep 300",
        "exec box touch /x/file",
        "cp box:/x/file /dev/null",
        "rm -f box",
        "create --name box -v vol:/x busybox",
        "cp /etc/hostname box:/x/new",
        "rm box",
        "run --rm -v vol:/x busybox ls /x",
        "volume rm vol",
    ],
    "pruned": [
        "volume create -d store vol",
        "volume prune -f",
        "volume ls -q",
        "volume rm vol",
    ],
    "shared": [
        "run -d --name one --volume-driver store -v vol:/x busybox sleep 300",
        "run -d --name two --volumes-from one busybox sleep 300",
        "exec two touch /x/file",
        "rm -f one",
        "exec two ls /x",
        "rm -f two",
        "volume rm vol",
    ],
}


@pytest.mark.parametrize("name", SCENES)
def test_same_words_and_same_calls(sides: tuple[Side, Side], name: str) -> None:
    for command in SCENES[name]:
        docker, teul = (side.run(command) for side in sides)
        assert _told(teul) == _told(docker), command


def _told(done: tuple[Output, list[tuple[str, dict[str, object]]]]) -> tuple[Output, list[tuple[str, dict[str, object]]]]:
    numbers: dict[str, str] = {}

    def number(value: object) -> object:
        if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
            return numbers.setdefault(value, f"<{len(numbers)}>")
        return value

    output, calls = done
    return output, [(method, {key: number(value) for key, value in arguments.items()}) for method, arguments in calls]
