"""Containers on a network of the user's find each other by name. The same against a real Docker: TEUL_E2E_AGAINST=dockerd."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from support import processes
from support.docker_host import DockerHost
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs", "nft")]

_IDLE = ("busybox", "sleep", "1000")
only_teul = pytest.mark.skipif(os.environ.get("TEUL_E2E_AGAINST") == "dockerd", reason="what Docker cannot do")


@pytest.fixture
def network(engine: DockerHost) -> Iterator[str]:
    engine.must("network", "create", "names")
    yield "names"
    engine.remove_containers()
    engine.must("network", "rm", "names")


def run(engine: DockerHost, name: str, *options: str, command: tuple[str, ...] = _IDLE) -> str:
    """A container that stays; returns its address on the first network that it was put on."""
    engine.must("run", "-d", "--name", name, *options, *command)
    return address(engine, name)


def address(engine: DockerHost, name: str, network: str = "names") -> str:
    networks = json.loads(engine.must("inspect", "--format", "{{json .NetworkSettings.Networks}}", name))
    return str(networks[network]["IPAddress"] if network in networks else next(iter(networks.values()))["IPAddress"])


def lookup(engine: DockerHost, asker: str, name: str, kind: str = "a") -> list[str]:
    """The addresses, or names, that `asker` is answered with, sorted; none where the name does not exist."""
    answer = engine.docker("exec", asker, "nslookup", *([] if kind == "ptr" else [f"-type={kind}"]), name).stdout
    found = re.findall(r"^Address(?: \d+)?:\s*([0-9a-f.:]+)(?: |$)(?!.*:53)", answer.partition("\n\n")[2], re.MULTILINE)
    return sorted(found) if kind in {"a", "aaaa"} else sorted(re.findall(r"name = (\S+)", answer))


def test_names_of_all_kinds_lead_to_the_container(engine: DockerHost, network: str) -> None:
    where = run(engine, "web", "--network", network, "--network-alias", "www", "--hostname", "host-of-web")
    run(engine, "asker", "--network", network)
    container_id = engine.must("inspect", "--format", "{{.Id}}", "web")[:12]
    for name in ("web", "WEB", "www", "host-of-web", container_id, f"web.{network}"):
        assert lookup(engine, "asker", name) == [where], name
    assert lookup(engine, "web", "web") == [where], "it finds itself"
    assert lookup(engine, "asker", where, "ptr") == [f"web.{network}"]
    assert lookup(engine, "asker", "nobody") == []
    assert "nameserver 127.0.0.11" in engine.must("exec", "asker", "cat", "/etc/resolv.conf")


def test_an_alias_of_several_containers_has_all_their_addresses(engine: DockerHost, network: str) -> None:
    where = [run(engine, f"replica-{number}", "--network", network, "--network-alias", "service") for number in range(3)]
    run(engine, "asker", "--network", network)
    assert lookup(engine, "asker", "service") == sorted(where)
    engine.must("rm", "-f", "replica-1")
    assert lookup(engine, "asker", "service") == sorted((where[0], where[2]))
    engine.must("stop", "-t", "0", "replica-2")
    assert lookup(engine, "asker", "service") == [where[0]]


def test_names_are_those_of_the_networks_that_the_asker_is_on(engine: DockerHost, network: str) -> None:
    engine.must("network", "create", "apart")
    try:
        run(engine, "hidden", "--network", "apart")
        run(engine, "asker", "--network", network)
        assert lookup(engine, "asker", "hidden") == []
        engine.must("network", "connect", "--alias", "found", network, "hidden")
        assert lookup(engine, "asker", "found") == lookup(engine, "asker", "hidden") == [address(engine, "hidden")]
        engine.must("network", "disconnect", network, "hidden")
        assert lookup(engine, "asker", "hidden") == []
        engine.must("network", "connect", "apart", "asker")
        assert lookup(engine, "asker", "hidden") == [address(engine, "hidden", "apart")]
    finally:
        engine.must("rm", "-f", "hidden", "asker")
        engine.must("network", "rm", "apart")


def test_a_container_of_the_default_bridge_gets_names_with_its_first_own_network(engine: DockerHost, network: str) -> None:
    where = run(engine, "web", "--network", network)
    run(engine, "asker")
    assert "127.0.0.11" not in engine.must("exec", "asker", "cat", "/etc/resolv.conf")
    engine.must("network", "connect", network, "asker")
    assert lookup(engine, "asker", "web") == [where]
    assert "nameserver 127.0.0.11" in engine.must("exec", "asker", "cat", "/etc/resolv.conf")


def test_a_name_that_was_given_anew_is_known(engine: DockerHost, network: str) -> None:
    where = run(engine, "web", "--network", network)
    run(engine, "asker", "--network", network)
    engine.must("rename", "web", "other")
    assert lookup(engine, "asker", "other") == [where]
    engine.must("restart", "-t", "0", "other")
    assert lookup(engine, "asker", "other") == [address(engine, "other")]


def test_both_versions_of_ip(engine: DockerHost) -> None:
    engine.must("network", "create", "--ipv6", "--subnet", "fd00:7e01::/64", "six")
    try:
        run(engine, "web", "--network", "six")
        run(engine, "asker", "--network", "six")
        six = engine.must("inspect", "--format", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}", "web")
        assert lookup(engine, "asker", "web", "aaaa") == [six]
        assert lookup(engine, "asker", six, "ptr") == ["web.six"]
        assert lookup(engine, "asker", "web") == [address(engine, "web", "six")]
    finally:
        engine.must("rm", "-f", "web", "asker")
        engine.must("network", "rm", "six")


def test_a_program_that_asks_at_once_is_answered(engine: DockerHost, network: str) -> None:
    """Its first packet is sent before the engine knows that the container runs."""
    run(engine, "web", "--network", network)
    for _ in range(5):
        assert engine.must("run", "--rm", "--network", network, "busybox", "nslookup", "-type=a", "web")


def test_port_53_stays_the_containers_own(engine: DockerHost, network: str) -> None:
    run(engine, "web", "--network", network)
    run(engine, "server", "--network", network, command=("busybox", "nc", "-ll", "-p", "53", "-e", "echo", "mine"))
    assert lookup(engine, "server", "web") == [address(engine, "web")]
    eventually(lambda: engine.docker("exec", "web", "nc", address(engine, "server"), "53").stdout == "mine\n", "its own server answers")


@only_teul
def test_names_need_no_engine(fresh_engine: Engine) -> None:
    """They are answered while there is none, and by what the next one finds, and when what answers was killed."""
    engine = fresh_engine
    engine.must("network", "create", "names")
    where = run(engine, "web", "--network", "names")
    run(engine, "asker", "--network", "names")
    pid = engine.init_pid("asker")
    engine.kill9()
    assert where in inside(pid, "web")
    engine.start()
    assert lookup(engine, "asker", "web") == [where]
    processes.end([agent_of(engine)])
    eventually(lambda: lookup(engine, "asker", "web") == [where], "another agent answers")
    later = run(engine, "later", "--network", "names")
    assert lookup(engine, "asker", "later") == [later]
    engine.must("rm", "-f", "web", "asker", "later")
    engine.must("network", "rm", "names")


def agent_of(engine: Engine) -> int:
    """The agent that complains into the engine's log."""
    agents = [pid for pid in processes.all_pids() if processes.command_line(pid) == "teul: network agent"]
    [agent] = [pid for pid in agents if os.readlink(f"/proc/{pid}/fd/2") == str(engine.log_path)]
    return agent


def inside(pid: int, name: str) -> str:
    """What the container's own nslookup says, without an engine."""
    command = ["nsenter", "-t", str(pid), "-n", "-m", "/bin/nslookup", "-type=a", name]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
