"""Pushing beside a real dockerd: the docker command shows the same, and what Teul has pushed dockerd pulls, with the same digest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import images
from support.docker_host import DockerHost
from support.docker_registry import docker_registry
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.registry import PASSWORD, USERNAME

pytestmark = [needs("root", "docker_cli", "dockerd", "docker_registry", "busybox", "overlayfs")]

# REGISTRY is in the clear and asks nobody, GUARDED wants a password; NOWHERE is a port where nobody listens.
SESSION = (
    "push REGISTRY/a/b:1",
    "push REGISTRY/a/b:1",
    "push -a REGISTRY/c",
    "push REGISTRY/c:9",
    "push REGISTRY/nosuch",
    "push -q REGISTRY/c:2",
    "push -a -q REGISTRY/c",
    "push REGISTRY/BAD",
    "push NOWHERE/c:2",
    "push GUARDED/c:2",
    "login -u x -p y NOWHERE",
    "login -u x -p y GUARDED",
    f"login -u {USERNAME} -p PASSWORD GUARDED",
    "push GUARDED/c:2",
    "logout GUARDED",
    "push GUARDED/c:2",
)


@dataclass
class Place:
    host: DockerHost
    registry: str
    guarded: str

    def play(self, line: str) -> tuple[int, list[str], str]:
        """Exit code, the lines of stdout, and stderr, without what differs. Layers are done in any order."""
        argv = self._named(line).split()
        output = self.host.docker(*(PASSWORD if word == "PASSWORD" else word for word in argv))
        return output.exit_code, sorted(self._normal(output.stdout).splitlines()), self._normal(output.stderr)

    def tag(self, image: str, name: str) -> None:
        self.host.must("tag", image, self._named(name))

    def _named(self, text: str) -> str:
        return text.replace("REGISTRY", self.registry).replace("GUARDED", self.guarded).replace("NOWHERE", "127.0.0.1:1")

    def _normal(self, text: str) -> str:
        text = text.replace(self.registry, "REGISTRY").replace(self.guarded, "GUARDED").replace(str(self.host.base), "BASE")
        # docker: dockerd compresses the layers of an image anew and writes another manifest for it.
        return re.sub(r"digest: sha256:[0-9a-f]{64} size: \d+", "digest: DIGEST size: SIZE", text)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Place]]:
    """dockerd and Teul, each with the same images and with registries of its own."""
    directory = tmp_path_factory.mktemp("registries")
    with ExitStack() as stack:
        found = []
        for kind in (Dockerd, Engine):
            host = stack.enter_context(kind())
            for image in (images.busybox(), images.layered()):
                host.load(image.docker_archive())
            registry = stack.enter_context(docker_registry(directory / f"{host.name}-plain", network_of=host.pid))
            guarded = stack.enter_context(docker_registry(directory / f"{host.name}-guarded", auth="basic", network_of=host.pid))
            place = Place(host, registry, guarded)
            place.tag("judge/layers:1", "REGISTRY/a/b:1")
            place.tag("judge/layers:1", "REGISTRY/c:3")
            for name in ("REGISTRY/c:2", "GUARDED/c:2", "NOWHERE/c:2"):
                place.tag("busybox", name)
            found.append(place)
        yield found[0], found[1]


def test_docker_push_shows_the_same(places: tuple[Place, Place]) -> None:
    """Step by step: what one step leaves in the registry, the next one finds there."""
    dockerd, teul = places
    for line in SESSION:
        assert (line, *teul.play(line)) == (line, *dockerd.play(line))


def test_dockerd_pulls_what_teul_has_pushed(tmp_path: Path) -> None:
    archive, digest = images.index_archive("multi:1", {"amd64": images.busybox(), "arm64": images.Image((), (b"\0" * 1024,), {})})
    with Engine() as engine, docker_registry(tmp_path / "here") as here:
        engine.load(archive)
        engine.load(images.layered().docker_archive())
        engine.must("tag", "multi:1", f"{here}/multi:1")
        engine.must("tag", "judge/layers:1", f"{here}/layers:1")
        engine.must("push", f"{here}/multi:1")
        engine.must("push", f"{here}/layers:1")
        layers = engine.inspect(f"{here}/layers:1")["Id"]
    with (
        Dockerd() as dockerd,
        docker_registry(tmp_path / "there", storage=tmp_path / "here/storage", network_of=dockerd.pid) as there,
    ):
        for name, expected in (("multi", digest), ("layers", layers)):
            assert f"Digest: {expected}" in dockerd.must("pull", f"{there}/{name}:1")
            assert dockerd.inspect(f"{there}/{name}:1")["RepoDigests"] == [f"{there}/{name}@{expected}"]
        assert dockerd.inspect(f"{there}/layers:1")["Id"] == images.layered().config_id
        assert dockerd.must("run", "--rm", "--net=none", f"{there}/multi:1", "echo", "from busybox") == "from busybox"
