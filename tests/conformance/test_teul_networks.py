"""`teul network`, and the options of `run` about networks, say and do what docker's do, of the same dockerd and of our engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.pair import PROGRAMS, Pair
from support import images
from support.docker_host import DockerHost, Output
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]


@pytest.fixture(scope="module", params=[Dockerd, Engine], ids=["dockerd", "teul"])
def host(request: pytest.FixtureRequest) -> Iterator[DockerHost]:
    with request.param() as host:
        host.load(images.busybox().docker_archive())
        yield host


@pytest.fixture
def pair(host: DockerHost, tmp_path: Path) -> Iterator[Pair]:
    yield Pair(host, tmp_path)
    host.remove_containers()
    host.must("network", "prune", "-f")


VERBS = ("connect", "create", "disconnect", "inspect", "ls", "prune", "rm")


@pytest.mark.parametrize("command", ["", *VERBS])
def test_help(pair: Pair, command: str) -> None:
    docker, teul = (pair.run(name, program, ("network", *command.split(), "--help"), b"") for name, program in PROGRAMS)
    # What is Teul's alone.
    shown = re.sub(r"(?m)^  (explain|egress) .*\n|^ +--egress .*\n(^ {20,}.*\n)*", "", teul.stdout)
    assert shown == re.sub(r"\bdocker\b(?= network)", "teul", docker.stdout)


@pytest.mark.parametrize("command", ["network connect x", "network create", "network disconnect", "network inspect", "network ls x"])
def test_wrong_numbers_of_arguments(pair: Pair, command: str) -> None:
    docker, teul = (pair.run(name, program, tuple(command.split()), b"") for name, program in PROGRAMS)
    assert (teul.exit_code, teul.stdout, teul.stderr) == (docker.exit_code, docker.stdout, docker.stderr.replace("docker", "teul"))


CREATIONS = [
    (),
    ("--subnet", "10.91.0.0/16"),
    ("--subnet", "10.91.0.0/16", "--gateway", "10.91.0.9", "--ip-range", "10.91.4.0/24", "--aux-address", "a=10.91.0.4"),
    ("--subnet", "10.91.0.0/16,fd91::/64", "--gateway", "10.91.0.9,fd91::9", "--ipv6"),
    ("--internal", "--attachable", "--label", "a=b", "--label", "c", "-o", "x=y", "-o", "com.docker.network.driver.mtu=1400"),
    ("--config-only", "--subnet", "10.92.0.0/24"),
    ("--driver", "bridge", "--ipam-driver", "default", "--ipam-opt", "k=v", "--scope", "local"),
    ("--ipv4=true", "--ipv6=false"),
]
REFUSED = [
    ("--subnet", "nonsense"),
    ("--subnet", "10.91.0.0/16", "--subnet", "10.91.1.0/24"),
    ("--subnet", "10.91.0.0/16", "--subnet", "nonsense"),
    ("--gateway", "10.91.0.1"),
    ("--subnet", "10.91.0.0/16", "--gateway", "10.92.0.1"),
    ("--subnet", "10.91.0.0/16", "--ip-range", "10.92.0.0/24"),
    ("--subnet", "10.91.0.0/16", "--ip-range", "nonsense/2"),
    ("--subnet", "10.91.0.0/16", "--aux-address", "a=10.92.0.1"),
    ("--subnet", "10.91.0.0/16", "--subnet", "10.92.0.0/16", "--gateway", "10.91.0.1", "--gateway", "10.91.0.2"),
    ("--label", "=x"),
    ("--label", "a b=x"),
    ("--ipv6=maybe",),
    ("--subnet", 'a"b'),
    ("--nosuch",),
]


def described(pair: Pair, name: str, program: str, arguments: tuple[str, ...]) -> tuple[Output, Any]:
    """What a creation said, its id replaced, and what it made."""
    output = pair.run(name, program, ("network", "create", *arguments, "net"), b"")
    if output.exit_code:
        return output, None
    [document] = json.loads(pair.dockerd.must("network", "inspect", "net"))
    pair.dockerd.must("network", "rm", "net")
    assert output.stdout == document.pop("Id") + "\n"
    del document["Created"]
    return Output(output.exit_code, "<id>\n", output.stderr), document


@pytest.mark.parametrize("arguments", CREATIONS + REFUSED, ids=" ".join)
def test_creation(pair: Pair, arguments: tuple[str, ...]) -> None:
    docker, teul = (described(pair, name, program, arguments) for name, program in PROGRAMS)
    for _, document in (docker, teul) if "--subnet" not in arguments else ():
        if document is not None:
            del document["IPAM"]["Config"]  # each makes the engine choose, and the engine does not choose twice the same
    assert teul == docker
    assert (teul[1] is None) == (arguments in REFUSED)


LISTS = [
    (),
    ("-q",),
    ("--no-trunc",),
    ("-q", "--no-trunc"),
    ("--filter", "name=net"),
    ("--filter", "driver=bridge", "--filter", "type=custom"),
    ("--filter", "label=a"),
    ("--filter", "dangling=true"),
    ("--filter", "nosuch=x"),
    ("--filter", "type=nosuch"),
    ("--filter", "nonsense"),
    ("--format", "json"),
    ("--format", "raw"),
    ("--format", "raw", "-q"),
    ("--format", '{{.Name}} {{.Label "a"}}', "-q"),
    ("--format", "table {{.Name}}\t{{.IPv4}}\t{{.IPv6}}\t{{.Internal}}\t{{.Labels}}\t{{.CreatedAt}}"),
    ("--format", "{{json .}}"),
    ("--format", "{{.Nosuch}}"),
    ("--format", "{{"),
]


def test_lists(pair: Pair) -> None:
    for name in ("net10", "net2", "net1"):
        pair.dockerd.must("network", "create", "--label", "a=<b>", name)
    for arguments in LISTS:
        pair.same("network", "ls", *arguments)
    names = pair.same("network", "list", "--format", "{{.Name}}").stdout.split()
    assert names == ["bridge", "host", "net1", "net2", "net10", "none"]
    for name, _ in PROGRAMS:
        settings = {"networksFormat": "table {{.ID}}\t{{.Driver}}"}
        (pair.directory / name / "config" / "config.json").write_text(json.dumps(settings))
    assert pair.same("network", "ls").stdout.startswith("NETWORK ID     DRIVER\n")
    assert pair.same("network", "ls", "-q").exit_code == 0


def test_inspection(pair: Pair) -> None:
    pair.dockerd.must("network", "create", "net")
    pair.dockerd.must("run", "-d", "--name", "box", "--network", "net", "busybox", "sleep", "60")
    for arguments in (
        ("net",),
        ("net", "bridge", "nosuch", "host"),
        ("-v", "net"),
        ("-f", "{{.Name}} {{.Id}} {{range .Containers}}{{.Name}}{{end}}", "net", "none"),
        ("-f", "{{json .IPAM}}", "net"),
        ("-f", "{{.Peers}} {{.Services}}", "net"),
        ("-f", "{{.Nosuch}}", "net"),
        ("-f", "json", "net"),
        ("-f", "{{", "net"),
        ("nosuch",),
    ):
        pair.same("network", "inspect", *arguments)
    assert pair.same("inspect", "net").exit_code == 0
    assert pair.same("inspect", "--type", "network", "nosuch").exit_code == 1


def test_removal(pair: Pair) -> None:
    create = ("network", "create", "net")
    assert pair.after(*create, run=("network", "rm", "net")).stdout == "net\n"
    assert pair.after(*create, run=("network", "remove", "nosuch", "net")).exit_code == 1
    assert pair.same("network", "rm", "-f", "nosuch").exit_code == 0
    assert pair.same("network", "rm", "bridge").exit_code == 1
    pair.dockerd.must(*create)
    pair.dockerd.must("run", "-d", "--name", "box", "--network", "net", "busybox", "sleep", "60")
    assert "has active endpoints" in pair.same("network", "rm", "-f", "net").stderr
    pair.dockerd.must("rm", "-f", "box")
    pair.dockerd.must("network", "rm", "net")
    assert pair.after(*create, run=("network", "prune", "-f")).stdout == "Deleted Networks:\nnet\n\n"
    assert pair.same("network", "prune", "-f").stdout == ""
    pair.dockerd.must(*create)
    assert pair.same("network", "prune", stdin=b"n\n").exit_code == 0
    assert pair.same("network", "prune", "-f", "--filter", "label=zz").stdout == ""
    assert pair.same("network", "prune", "-f", "--filter", "nosuch=zz").exit_code == 1
    assert pair.after("network", "ls", run=("network", "prune", "--filter", "until=1ns"), stdin=b"n\n").exit_code == 0


CONNECTIONS = [
    (),
    ("--alias", "a,b", "--alias", "c"),
    ("--ip", "10.91.0.7", "--link-local-ip", "169.254.7.7"),
    ("--ip6", "fd91::7"),
    ("--driver-opt", "nonsense"),
    ("--ip", "nonsense"),
    ("--ip", "10.92.0.7"),
    ("--link", "a:b:c"),
    ("--gw-priority", "x"),
]


def endpoints(pair: Pair) -> Any:
    found = pair.dockerd.inspect("box")["NetworkSettings"]["Networks"]
    for endpoint in found.values():
        for name in ("EndpointID", "NetworkID", "Aliases", "DNSNames"):
            endpoint.pop(name, None)
    return found


@pytest.mark.parametrize("arguments", CONNECTIONS, ids=" ".join)
def test_connection(pair: Pair, arguments: tuple[str, ...]) -> None:
    pair.dockerd.must("network", "create", "--ipv6", "--subnet", "10.91.0.0/16", "--subnet", "fd91::/64", "net")
    pair.dockerd.must("run", "-d", "--name", "box", "busybox", "sleep", "60")
    seen = []
    for name, program in PROGRAMS:
        output = pair.run(name, program, ("network", "connect", *arguments, "net", "box"), b"")
        seen.append((output, endpoints(pair)))
        if output.exit_code == 0:
            pair.dockerd.must("network", "disconnect", "net", "box")
    # One releases the address and the other gets the next one, unless it is asked for.
    assert seen[0][0] == seen[1][0]
    assert _without_addresses(seen[0][1]) == _without_addresses(seen[1][1])
    if "--ip" in arguments:
        assert seen[0][1] == seen[1][1]


def _without_addresses(found: Any) -> Any:
    changing = ("IPAddress", "GlobalIPv6Address", "MacAddress")
    return {name: {key: value for key, value in endpoint.items() if key not in changing} for name, endpoint in found.items()}


def test_disconnection(pair: Pair) -> None:
    pair.dockerd.must("network", "create", "net")
    pair.dockerd.must("run", "-d", "--name", "box", "busybox", "sleep", "60")
    assert pair.after("network", "connect", "net", "box", run=("network", "disconnect", "net", "box")).exit_code == 0
    for arguments in (("net", "box"), ("-f", "net", "box"), ("nosuch", "box"), ("net", "nosuch")):
        assert pair.same("network", "disconnect", *arguments).exit_code == 1


RUNS = [
    ("--network", "net"),
    ("--network", "name=net,alias=x,ip=10.91.0.8"),
    ("--network", "name=net,ip6=fd91::8,link-local-ip=169.254.8.8"),
    ("--network", "net", "--network-alias", "x", "--ip", "10.91.0.8", "--ip6", "fd91::8", "--link-local-ip", "169.254.8.8"),
]
REFUSED_RUNS = [
    ("--network", "name=net,ip=10.91.0.8", "--ip", "10.91.0.9"),
    ("--network", "name=net,ip6=fd91::8", "--ip6", "fd91::9"),
    ("--network", "name=net,alias=x", "--network-alias", "y"),
    ("--network", "name=net,link-local-ip=169.254.8.8", "--link-local-ip", "169.254.8.9"),
    ("--network", "name=net,mac-address=02:42:00:00:00:01", "--mac-address", "02:42:00:00:00:02"),
    ("--network", "net", "--network", "net"),
    ("--network", "net", "--network", "bridge"),
    ("--network", "bridge", "--network-alias", "x"),
    ("--network", "host", "--ip", "10.91.0.8"),
    ("--network", "bridge", "--ip", "10.91.0.8"),
    ("--network", "name=net,ip=nonsense"),
    ("--network", "net", "--ip", "10.92.0.8"),
    ("--network", "nosuch"),
    ("--network", ""),
    ("--network", "name="),
    ("--network", "alias=x"),
    ("--network", "name=net,nonsense"),
    ("--network", "name=net,nosuch=x"),
    ("--network", "name=net,driver-opt=x"),
    ("--network", "name=net,gw-priority=x"),
    ("--mac-address", "nonsense"),
    ("--network", "name=net,mac-address=nonsense"),
    ("--link", "a:b:c"),
    ("--link", ""),
    ("--link", "nosuch"),
    ("--network", "host", "--link", "nosuch:x"),
]


@pytest.mark.parametrize("arguments", RUNS + REFUSED_RUNS, ids=" ".join)
def test_run(pair: Pair, arguments: tuple[str, ...]) -> None:
    pair.dockerd.must("network", "create", "--ipv6", "--subnet", "10.91.0.0/16", "--subnet", "fd91::/64", "net")
    seen = []
    for name, program in PROGRAMS:
        output = pair.run(name, program, ("run", "-d", "--name", "box", *arguments, "busybox", "sleep", "60"), b"")
        found = endpoints(pair) if output.exit_code == 0 else None
        pair.dockerd.docker("rm", "-f", "box")
        seen.append((output.exit_code, re.sub(r"[0-9a-f]{64}", "<id>", output.stdout + output.stderr), found))
    if arguments != RUNS[-1]:
        # What was not asked for is another address when somebody had the first a moment ago.
        seen = [(code, text, found and _without_addresses(found)) for code, text, found in seen]
    assert seen[1] == seen[0]
    assert (seen[1][0] == 0) == (arguments in RUNS)
