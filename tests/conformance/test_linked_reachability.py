"""Who reaches whom on a default bridge that keeps its containers apart, and what links open there: with both engines, compared."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from conformance.test_reachability import Probe, is_answered, servers
from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from teul.linux import netns

pytestmark = needs("root", "docker_cli", "dockerd", "busybox", "overlayfs", "nft")

_NAMES = ("store", "web", "stranger")
_EXPOSED_TCP, _EXPOSED_UDP, _HIDDEN = 81, 82, 83


def _run(engine: DockerHost, name: str, *options: str) -> None:
    engine.must("run", "-d", "--init", "--name", name, *options, "busybox", "sleep", "1000")


def _matrix(engine: DockerHost) -> dict[str, bool]:
    """Of all containers that run: which ports of which others they reach."""
    running = [name for name in _NAMES if name in engine.must("ps", "--format", "{{.Names}}").split()]
    with contextlib.ExitStack() as stack:
        spaces, addresses = {}, {}
        for name in running:
            document = engine.inspect(name)
            spaces[name] = netns.open_of(document["State"]["Pid"])
            stack.callback(os.close, spaces[name])
            if address := document["NetworkSettings"]["Networks"].get("bridge", {}).get("IPAddress"):
                addresses[name] = address
                for port in (_EXPOSED_TCP, _EXPOSED_UDP, _HIDDEN):
                    stack.enter_context(servers(spaces[name], port))
        probes = [
            Probe(source, target, protocol, addresses[target], port)
            for source in addresses
            for target in addresses.keys() - {source}
            for protocol, port in (("tcp", _EXPOSED_TCP), ("udp", _EXPOSED_UDP), ("udp", _EXPOSED_TCP), ("tcp", _HIDDEN))
        ]
        pool = stack.enter_context(ThreadPoolExecutor(24))
        answers = pool.map(lambda probe: netns.run_inside(spaces[probe.source], partial(is_answered, probe)), probes)
        return {f"{probe} {probe.port}": answer for probe, answer in zip(probes, answers, strict=True)}


def _scenes(make: Callable[..., DockerHost]) -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = {}
    with make(extra=("--icc=false",)) as engine:
        engine.load(images.busybox().docker_archive())
        _run(engine, "store", "--expose", f"{_EXPOSED_TCP}", "--expose", f"{_EXPOSED_UDP}/udp")
        _run(engine, "stranger", "--expose", f"{_EXPOSED_TCP}")
        found["without a link"] = _matrix(engine)
        _run(engine, "web", "--link", "store:db")
        found["with a link"] = _matrix(engine)
        engine.must("restart", "-t", "1", "store")
        found["after the child's restart"] = _matrix(engine)
        engine.must("restart", "-t", "1", "web")
        found["after the parent's restart"] = _matrix(engine)
        engine.must("rm", "--link", "web/db")
        found["without the link"] = _matrix(engine)
        engine.must("rm", "-f", "web")
        _run(engine, "web", "--link", "store:db")
        engine.must("network", "disconnect", "bridge", "store")
        engine.must("network", "connect", "bridge", "store")
        found["after the child has come back to the network"] = _matrix(engine)
        engine.must("rm", "-f", *_NAMES)
    return found


@pytest.mark.alone
def test_what_links_open_between_containers_that_are_kept_apart() -> None:
    """Beside dockerd, probe by probe."""
    ours, docker = _scenes(Engine), _scenes(Dockerd)
    assert ours == docker
    reached = {scene: sorted(probe for probe, answer in probes.items() if answer) for scene, probes in ours.items()}
    assert reached["without a link"] == reached["without the link"] == []
    assert reached["with a link"] == ["web -> store tcp 81", "web -> store udp 82"]
