"""Networks of the drivers macvlan and ipvlan: the docker command says the same of ours as of dockerd's.

Both engines have an interface of the same name to be the parent, each in its own network namespace.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.docker_host import DockerHost, Output
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = needs("root", "dockerd", "docker_cli", "busybox", "overlayfs")

PARENT = "tlwire0"
_IDENTIFIER = re.compile(r"\b[0-9a-f]{64}\b|(?<=\bd[mi]-)[0-9a-f]{12}\b")


@pytest.fixture
def engines(running: tuple[DockerHost, DockerHost]) -> Iterator[tuple[DockerHost, DockerHost]]:
    """Both, and afterwards without what the test has made there."""
    yield running
    for engine in running:
        engine.remove_containers()
        engine.must("network", "prune", "-f")


@pytest.fixture(scope="module")
def running(archives: dict[str, Path]) -> Iterator[tuple[DockerHost, DockerHost]]:
    """dockerd and ours, with an image."""
    with Dockerd() as dockerd, Engine() as ours:
        for engine in (dockerd, ours):
            in_network_of(engine, "ip", "link", "add", PARENT, "type", "veth", "peer", "name", f"{PARENT}x")
            in_network_of(engine, "ip", "link", "set", PARENT, "up")
        try:
            for engine in (dockerd, ours):
                engine.must("load", "-i", str(archives["busybox.tar"]))
            yield dockerd, ours
        finally:
            in_network_of(ours, "ip", "link", "delete", PARENT)


def in_network_of(engine: DockerHost, *command: str) -> None:
    subprocess.run(["nsenter", f"--net=/proc/{engine.pid}/ns/net", *command], check=True)


def same(engines: tuple[DockerHost, DockerHost], *arguments: str) -> Output:
    """Run it on both, demand the same of them, and return it."""
    docker, ours = (shown(engine.docker(*arguments)) for engine in engines)
    assert ours == docker
    return ours


def shown(output: Output) -> Output:
    return Output(output.exit_code, _IDENTIFIER.sub("<id>", output.stdout), _IDENTIFIER.sub("<id>", output.stderr))


def inspected(engine: DockerHost, name: str) -> Any:
    """What is said of a network, without what is an engine's own, or only newer Dockers say."""
    [document] = json.loads(engine.must("network", "inspect", name))
    document["IPAM"]["Config"].sort(key=lambda entry: entry["Subnet"])  # docker: the command line sends several in any order
    return {key: value for key, value in document.items() if key not in {"Id", "Created", "EnableIPv4", "Containers"}}


@needs("macvlan")
def test_a_network_is_made_looked_at_and_removed(engines: tuple[DockerHost, DockerHost]) -> None:
    subnets = ("--subnet", "192.0.2.0/24", "--gateway", "192.0.2.254", "--subnet", "198.51.100.0/24", "--gateway", "198.51.100.1")
    options = ("-o", f"parent={PARENT}", "-o", "macvlan_mode=private", "--aux-address", "host=192.0.2.7", "--label", "a=b")
    assert same(engines, "network", "create", "-d", "macvlan", *subnets, *options, "lan").exit_code == 0
    docker, ours = (inspected(engine, "lan") for engine in engines)
    assert ours == docker
    assert ours["Options"] == {"parent": PARENT, "macvlan_mode": "private"}
    same(engines, "network", "ls", "--filter", "driver=macvlan", "--format", "{{.Name}} {{.Driver}} {{.Scope}}")
    assert same(engines, "network", "rm", "lan").stdout == "lan\n"


@needs("macvlan")
def test_a_container_has_the_same_inside(engines: tuple[DockerHost, DockerHost]) -> None:
    """Address, kind of link and way out; a container that is on the network keeps it from being removed."""
    same(
        engines,
        *("network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.254", "-o", f"parent={PARENT}", "lan"),
    )
    look = "ip -o -4 addr show eth0 | grep -o 'inet [^ ]*'; ip route | sed 's/ *$//'; cat /sys/class/net/eth0/mtu; ls /sys/class/net"
    seen = same(engines, "run", "--rm", "--network", "lan", "--ip", "192.0.2.9", "busybox", "sh", "-c", look)
    assert "inet 192.0.2.9/24" in seen.stdout
    assert "default via 192.0.2.254" in seen.stdout
    for engine in engines:
        engine.must("run", "-d", "--name", "box", "--network", "lan", "busybox", "sleep", "100")
    settings = '{{with index .NetworkSettings.Networks "lan"}}{{.IPAddress}}/{{.IPPrefixLen}} {{.Gateway}}{{end}}'
    same(engines, "inspect", "--format", settings, "box")
    for engine in engines:
        assert "has active endpoints" in engine.docker("network", "rm", "lan").stderr
        engine.must("rm", "-f", "box")
        engine.must("network", "rm", "lan")


@pytest.mark.parametrize(
    "options",
    [
        ("macvlan", "macvlan_mode=odd", f"parent={PARENT}"),
        ("macvlan", "parent=lo"),
        ("macvlan", "parent=absent"),
        ("macvlan", "parent=a.b.c"),
        ("macvlan", f"parent={PARENT}.0"),
        ("macvlan", f"parent={PARENT}.4095"),
        ("ipvlan", "ipvlan_mode=odd", f"parent={PARENT}"),
        ("ipvlan", "parent=lo"),
        ("ipvlan", "parent=absent"),
        ("ipvlan", "parent=lo.x"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_made_is_said_in_the_same_words(engines: tuple[DockerHost, DockerHost], options: tuple[str, ...]) -> None:
    driver, *rest = options
    arguments = [word for option in rest for word in ("-o", option)]
    refused = same(engines, "network", "create", "-d", driver, "--subnet", "192.0.2.0/24", *arguments, "odd")
    assert refused.exit_code == 1


def test_a_parent_is_one_networks_of_ipvlan(engines: tuple[DockerHost, DockerHost]) -> None:
    parent = ("-o", f"parent={PARENT}")
    same(engines, "network", "create", "-d", "ipvlan", "--subnet", "192.0.2.0/24", *parent, "first")
    refused = same(engines, "network", "create", "-d", "ipvlan", "--subnet", "198.51.100.0/24", *parent, "second")
    assert refused.stderr == f"Error response from daemon: network di-<id> is already using parent interface {PARENT}\n"
    same(engines, "network", "rm", "first")
