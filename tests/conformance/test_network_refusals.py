"""What is refused about networks: in Docker's words, and leaving everything as it was, in lists and on the host."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.network_differences import expected
from conformance.network_scenes import Request, Step
from conformance.test_networks import outcome
from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]

# Subnets for networks that ask for none: two of them, and the default bridge has one of its own.
POOL = ("--default-address-pool", "base=10.193.0.0/23,size=24")
FOREIGN_PORT = "19193"


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[DockerHost, DockerHost]]:
    with Dockerd(extra=POOL) as dockerd, Engine(extra=(*POOL, "--bip", "10.194.0.1/24")) as engine:
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
        yield dockerd, engine


@pytest.fixture
def clean(hosts: tuple[DockerHost, DockerHost]) -> Iterator[tuple[DockerHost, DockerHost]]:
    yield hosts
    for host in hosts:
        host.remove_containers()
        host.must("network", "prune", "-f")


SETTING = (
    "network create --subnet 10.181.0.0/24 net",
    "network create --subnet 10.182.0.0/30 small",
    "network create --config-only conf",
    "run -d --name box --network net --ip 10.181.0.7 busybox sleep 300",
    "run -d --name full --network small busybox sleep 300",
    "create --name still --network net busybox sleep 300",
    "run -d --name holder -p 19194:80 busybox sleep 300",
)

_CREATE = "network create"
REFUSED: tuple[Step, ...] = (
    f"{_CREATE} --subnet 10.181.0.0/25 new",
    f"{_CREATE} --subnet 10.181.0.0/16 new",
    f"{_CREATE} --subnet 10.184.0.0/24 net",
    f"{_CREATE} --subnet 10.184.0.0/24 --subnet 10.184.0.0/25 new",
    f"{_CREATE} --subnet 10.184.0.0/24 -o com.docker.network.driver.mtu=x new",
    f"{_CREATE} --subnet 10.184.0.0/24 -o com.docker.network.bridge.name=lo new",
    f"{_CREATE} --config-from nosuch new",
    f"{_CREATE} --config-from conf --subnet 10.184.0.0/24 new",
    "run --rm --network small busybox true",
    "run --rm --network net --ip 10.181.0.7 busybox true",
    "run --rm --network net --ip 10.184.0.7 busybox true",
    "run --rm --network nosuch busybox true",
    "run --rm --network conf busybox true",
    "run --rm --network container:still busybox true",
    "run --rm --network net --mac-address nonsense busybox true",
    "run --rm --name new -p 19194:80 busybox true",
    f"run --rm --name new -p {FOREIGN_PORT}:80 busybox true",
    f"run --rm --name new -p 19195:80 -p {FOREIGN_PORT}:81 busybox true",
    "network connect small box",
    "network connect --ip 10.182.0.2 small box",
    "network connect net box",
    "network connect --ip 10.184.0.7 bridge box",
    "network connect conf box",
    "network connect nosuch box",
    "network connect net nosuch",
    "network disconnect bridge box",
    "network disconnect small still",
    "network disconnect nosuch box",
    "network disconnect -f small box",
    "network rm net",
    "network rm small",
    "network rm nosuch",
    "network rm host",
    "network prune -f --filter nosuch=x",
    "network prune -f --filter until=nonsense",
    Request("POST", "/networks/net/connect", {"Container": "box", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.181.0.9"}}}),
    Request("POST", "/networks/net/disconnect", {"Container": "holder"}),
    Request("POST", "/networks/small/connect", {"Container": "nosuch"}),
    Request("DELETE", "/networks/bridge"),
)


def _state(host: DockerHost) -> list[Any]:
    """Everything that lists and inspections tell of networks and containers, but for what changes by itself."""
    networks = host.must("network", "ls", "-q", "--no-trunc").split()
    containers = host.must("ps", "-aq", "--no-trunc").split()
    wanted = "{{.Id}} {{.State.Status}} {{json .NetworkSettings}} {{json .HostConfig.PortBindings}}"
    return [
        json.loads(host.must("network", "inspect", *networks)),
        sorted(host.must("inspect", "-f", wanted, *containers).splitlines()),
        _links(host),
    ]


def _links(host: DockerHost) -> list[str]:
    """Bridges of the host's, and what is on bridges."""
    listed = subprocess.run(["nsenter", "-t", str(host.pid), "-n", "ip", "-j", "link"], capture_output=True, text=True, check=True).stdout
    own = host.must("network", "ls", "--filter", "driver=bridge", "-q", "--no-trunc").split()
    names = {json.loads(host.must("network", "inspect", own[0]))[0]["Options"].get("com.docker.network.bridge.name", "")}
    prefixes = ("br-", "docker") if isinstance(host, Dockerd) else ()
    bridges = {*names, *(f"tl-{network[:12]}" for network in own)}
    return sorted(
        link["ifname"]
        for link in json.loads(listed)
        if link["ifname"] in bridges or link.get("master") in bridges or link["ifname"].startswith(prefixes)
    )


@contextlib.contextmanager
def _listening(host: DockerHost, port: str) -> Iterator[None]:
    """A process that is nobody's container has the port, in the engine's network namespace."""
    inside = ["nsenter", "-t", str(host.pid), "-n"]
    process = subprocess.Popen([*inside, "busybox", "nc", "-ll", "-p", port, "-e", "/bin/true"], stdin=subprocess.DEVNULL)
    try:
        look = [*inside, "ss", "-Hltn", f"sport = :{port}"]
        eventually(lambda: subprocess.run(look, capture_output=True, text=True, check=True).stdout, "the port is taken")
        yield
    finally:
        process.kill()
        process.wait()


def test_what_is_refused_leaves_everything_as_it_was(clean: tuple[DockerHost, DockerHost]) -> None:
    problems: list[str] = []
    with contextlib.ExitStack() as stack:
        for host in clean:
            for command in SETTING:
                host.must(*shlex.split(command))
            stack.enter_context(_listening(host, FOREIGN_PORT))
        before = [_state(host) for host in clean]
        for step in REFUSED:
            title = step if isinstance(step, str) else step.title
            docker, teul = (outcome(host, step) for host in clean)
            wanted = expected("refused", title, docker)
            if teul != wanted:
                problems.append(f"$ {title}\n  docker {docker}\n  teul   {teul}" + (f"\n  newer  {wanted}" if wanted != docker else ""))
            if _state(clean[1]) != before[1]:
                problems.append(f"$ {title}: it has left something")
                before[1] = _state(clean[1])
    assert not problems, "\n" + "\n".join(problems)


def test_pools_that_are_used_up_can_be_used_again(clean: tuple[DockerHost, DockerHost]) -> None:
    steps = ("network create one", "network create two", "network create three", "network rm one", "network create three")
    docker, teul = ([outcome(host, step) for step in steps] for host in clean)
    assert teul == [expected("pools", step, each) for step, each in zip(steps, docker, strict=True)]
    assert [each[0] for each in teul] == [0, 0, 1, 0, 0]


def test_a_name_goes_before_the_beginning_of_an_id_and_an_id_before_a_name(clean: tuple[DockerHost, DockerHost]) -> None:
    seen = []
    for host in clean:
        first = host.must("network", "create", "--subnet", "10.181.0.0/24", "net").strip()
        second = host.must("network", "create", "--subnet", "10.182.0.0/24", first[:12]).strip()
        third = host.must("network", "create", "--subnet", "10.183.0.0/24", first).strip()
        known = {first: "first", second: "second", third: "third"}
        host.must("run", "-d", "--name", "box", "--network", first[:12], "busybox", "sleep", "300")
        looked = [known[host.must("network", "inspect", "-f", "{{.Id}}", name).strip()] for name in ("net", first[:12], first[:11], first)]
        listed = {name: host.must("network", "ls", "-q", "--filter", f"id={name}") for name in (first, first[:12])}
        outcomes = [
            expected("names", "network rm <short-id>", outcome(host, f"network rm {first[:12]}")),
            host.must("inspect", "-f", "{{len .NetworkSettings.Networks}}", "box"),
            sorted(len(ids.split()) for ids in listed.values()),
        ]
        host.must("rm", "-f", "box")
        host.must("network", "rm", first[:12])
        left = [known[each] for each in host.must("network", "ls", "-q", "--no-trunc").split() if each in known]
        host.must("network", "rm", first)
        left_then = [known[each] for each in host.must("network", "ls", "-q", "--no-trunc").split() if each in known]
        seen.append((looked, outcomes, sorted(left), left_then))
    assert seen[1] == seen[0]
    assert seen[1][0] == ["first", "second", "first", "first"]
