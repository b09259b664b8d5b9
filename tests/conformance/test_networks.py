"""Networks of the user's: each engine is told the same, and says and shows the same; where later Dockers say otherwise, as they do."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import docker
import pytest
from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from conformance.network_differences import expected, normalise, with_known_members
from conformance.network_scenes import SCENES, SETTINGS, Request, Step
from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.linux import netns

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]


@pytest.fixture
def hosts() -> Iterator[tuple[DockerHost, DockerHost]]:
    """New ones for each scene: 20.10 keeps the addresses of a network that it refused in the end."""
    with Dockerd() as dockerd, Engine() as engine:
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
        yield dockerd, engine


def outcome(host: DockerHost, step: Step) -> Any:
    """What a step came to, with what differs from run to run taken out."""
    if isinstance(step, Request):
        with host.api() as api:
            answer = api.request(step.method, step.path, step.body)
            return answer.status, normalise(answer.body.decode())
    output = host.docker(*shlex.split(step))
    stdout: Any = output.stdout
    if stdout.startswith(("{", "[")):
        stdout = with_known_members(json.loads(stdout))
        return output.exit_code, json.loads(normalise(json.dumps(stdout))), normalise(output.stderr)
    if "prune" in step:
        stdout = "".join(sorted(stdout.splitlines(keepends=True)))  # docker: in any order
    return output.exit_code, normalise(stdout), normalise(output.stderr)


@pytest.mark.parametrize("scene", SCENES)
def test_both_engines_do_the_same(hosts: tuple[DockerHost, DockerHost], scene: str) -> None:
    """Every difference is one that `network_differences` names, with its reason."""
    problems: list[str] = []
    for step in SCENES[scene]:
        title = step if isinstance(step, str) else step.title
        docker, teul = (outcome(host, step) for host in hosts)
        wanted = expected(scene, title, docker)
        if wanted is not None and teul != wanted:
            problems.append(f"$ {title}\n  docker {docker}\n  teul   {teul}" + (f"\n  newer  {wanted}" if wanted != docker else ""))
    assert not problems, "\n" + "\n".join(problems)


def test_docker_py_works_alike(hosts: tuple[DockerHost, DockerHost]) -> None:
    """Its objects for networks, and its exceptions."""
    seen = [_as_seen_by_docker_py(host) for host in hosts]
    assert seen[1] == seen[0]


def _as_seen_by_docker_py(host: DockerHost) -> list[Any]:
    seen: list[Any] = []
    with contextlib.closing(docker.DockerClient(base_url=f"unix://{host.socket_path}", version="1.41")) as client:
        pool = IPAMPool(subnet="10.181.0.0/24", gateway="10.181.0.9", aux_addresses={"a": "10.181.0.3"})
        network = client.networks.create(
            "net", ipam=IPAMConfig(pool_configs=[pool]), internal=True, labels={"a": "b"}, check_duplicate=True
        )
        seen.append((network.name, network.attrs["Internal"], network.attrs["Labels"], network.attrs["IPAM"]["Config"]))
        box = client.containers.run("busybox", ["sleep", "300"], name="box", detach=True)
        network.connect(box, ipv4_address="10.181.0.7", aliases=["alias"])
        network.reload()
        seen.append([container.name for container in network.containers])
        box.reload()
        endpoint = box.attrs["NetworkSettings"]["Networks"]["net"]
        seen.append((endpoint["IPAddress"], endpoint["IPAMConfig"], endpoint["Aliases"][0]))
        for wrong in (
            lambda: client.networks.get("nosuch"),
            network.remove,
            lambda: network.connect("nosuch"),
            lambda: network.connect(box),
        ):
            with pytest.raises((APIError, NotFound)) as caught:
                wrong()
            seen.append((type(caught.value).__name__, caught.value.status_code))
        network.disconnect(box)
        seen.append([each.name for each in client.networks.list(names=["net"])])
        box.remove(force=True)
        seen.append(client.networks.prune())
    return seen


EVENTFUL = (
    "network create --subnet 10.181.0.0/24 one",
    "network create --subnet 10.181.1.0/24 two",
    "create --name box --network one busybox sleep 300",
    "network connect two box",
    "start box",
    "network disconnect two box",
    "network connect two box",
    "network connect bridge box",
    "kill box",
    "wait box",
    "start box",
    "restart -t 0 box",
    "rm -f box",
    "run --rm --name alone --network none busybox true",
    "run --rm --name hosted --network host busybox true",
    "run -d --name box --network one busybox sleep 300",
    "run --rm --name guest --network container:box busybox true",
    "rm -f box",
    "network create --internal --subnet 10.181.2.0/24 three",
    "network create --config-only conf",
    "network rm three conf",
    "network rm one",
    "network prune -f",
)


def test_events(hosts: tuple[DockerHost, DockerHost]) -> None:
    """What happens to networks and containers is told in Docker's order; several networks of one container come in any."""
    seen = []
    for host in hosts:
        began = time.time()
        for step in EVENTFUL:
            host.must(*shlex.split(step))
        format_ = "{{.Type}} {{.Action}} {{json .Actor.Attributes}}"
        lines = host.must("events", "--since", f"{began:.9f}", "--until", f"{time.time():.9f}", "--format", format_).splitlines()
        seen.append(_in_order([_event(line) for line in lines]))
    # 20.10 tells twice that a running container leaves a network.
    twice = 'network disconnect {"container": "<id>", "name": "two", "type": "bridge"}'
    seen[0].remove(twice)
    assert seen[1] == seen[0]


def _event(line: str) -> str:
    kind, action, attributes = line.split(" ", 2)
    wanted = json.loads(attributes)
    if kind == "container":
        wanted = {key: value for key, value in wanted.items() if key in ("name", "signal", "exitCode")}
    return normalise(f"{kind} {action} {json.dumps(wanted, sort_keys=True)}")


def _in_order(events: list[str]) -> list[str]:
    """The same, with neighbours of one kind sorted."""
    ordered: list[str] = []
    run: list[str] = []
    for event in [*events, ""]:
        if run and run[0].split(" ")[:2] != event.split(" ")[:2]:
            ordered += sorted(run)
            run = []
        run.append(event)
    return ordered


def echoed(address: str, port: int) -> bytes:
    """What comes back of a word, after which the client says nothing more."""
    with socket.create_connection((address, port), timeout=10) as client, contextlib.suppress(ConnectionError):
        client.sendall(b"word")
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as file:
            return file.read()
    return b""


def test_a_published_port_is_reached_by_the_same_addresses(hosts: tuple[DockerHost, DockerHost]) -> None:
    """By the engine's host's own, of both versions of IP; the container has IPv4."""
    reached: list[dict[str, bytes]] = []
    for host in hosts:
        host.must("run", "-d", "--name", "web", "-p", "80", "busybox", "nc", "-ll", "-p", "80", "-e", "cat")
        port = int(host.must("port", "web").splitlines()[0].rpartition(":")[2])
        places = {"loopback": "127.0.0.1", "loopback6": "::1", "gateway": host.inspect("web")["NetworkSettings"]["Gateway"]}
        pidfd = os.pidfd_open(host.pid)
        try:
            ask = partial(netns.run_inside, pidfd)
            eventually(lambda ask=ask, port=port: ask(lambda: echoed("127.0.0.1", port)), "it answers")  # type: ignore[misc]
            reached.append({name: ask(partial(echoed, address, port)) for name, address in places.items()})
        finally:
            os.close(pidfd)
    assert reached[0] == reached[1] == dict.fromkeys(("loopback", "loopback6", "gateway"), b"word")


DEFAULT_BRIDGE = (
    *("--fixed-cidr", "172.30.5.0/24", "--default-gateway", "172.30.0.9", "--ipv6", "--fixed-cidr-v6", "fd00:30::/112"),
    *("--icc=false", "--ip-masq=false", "--mtu", "1400", "--ip", "127.0.0.1"),
)
DEFAULT_BRIDGE_OPTIONS = ("bridge.enable_icc", "bridge.enable_ip_masquerade", "bridge.host_binding_ipv4", "driver.mtu")
ON_THE_DEFAULT_BRIDGE = (
    *(f"network inspect -f '{{{{index .Options \"com.docker.network.{option}\"}}}}' bridge" for option in DEFAULT_BRIDGE_OPTIONS),
    "network inspect -f '{{json .EnableIPv6}} {{json .IPAM}}' bridge",
    "run -d --name box -h box busybox sleep 300",
    "run -d --name other busybox sleep 300",
    SETTINGS + "box",
    "exec box ip -o addr show dev eth0",
    "exec box ip route",
    "exec box ip -6 route show default",
    "exec box sh -c 'ip link show dev eth0 | grep -o mtu.1400'",
    "exec box sh -c 'grep box /etc/hosts'",
    "exec box sh -c 'ping -c 1 -W 1 -q 172.30.5.1 | grep received'",
    "exec box sh -c 'ping -c 1 -W 5 -q fd00:30::1 | grep received'",
    "exec box sh -c 'ping -c 1 -W 1 -q fd00:30::3 | grep received'",
)


def test_the_default_bridge_has_dockerds_options() -> None:
    """Addresses of both versions, another way out, and containers that do not reach one another."""
    with Dockerd(extra=DEFAULT_BRIDGE) as dockerd, Engine(extra=("--bip", "172.30.0.1/16", *DEFAULT_BRIDGE)) as engine:
        seen = []
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
            seen.append([outcome(host, step) for step in ON_THE_DEFAULT_BRIDGE])
    problems = [
        f"$ {step}\n  docker {docker}\n  teul   {teul}"
        for step, docker, teul in zip(ON_THE_DEFAULT_BRIDGE, *seen, strict=True)
        if teul != expected("the default bridge", step, docker)
    ]
    assert not problems, "\n" + "\n".join(problems)
