"""Options of networks that only a running container shows: of the default bridge, of one endpoint, and links."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import images
from support.docker_host import EngineFailed
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

SLEEP = ("busybox", "sleep", "300")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        engine.load(images.busybox().docker_archive())
        yield engine


def endpoint(engine: Engine, container: str, network: str = "bridge") -> Any:
    return json.loads(engine.must("inspect", "-f", "{{json .NetworkSettings.Networks}}", container))[network]


def test_the_default_bridge_as_it_was_asked_for() -> None:
    """Addresses of both versions out of what was given, another way out, another MTU, and containers that are kept apart."""
    addresses = ("--bip", "10.191.0.1/24", "--fixed-cidr", "10.191.0.128/25", "--default-gateway", "10.191.0.9")
    with Engine(extra=(*addresses, "--ipv6", "--fixed-cidr-v6", "fd00:191::/64", "--mtu", "1400", "--icc=false")) as engine:
        engine.load(images.busybox().docker_archive())
        engine.must("run", "-d", "--name", "one", *SLEEP)
        engine.must("run", "-d", "--name", "two", *SLEEP)
        one = endpoint(engine, "one")
        assert (one["IPAddress"], one["Gateway"], one["GlobalIPv6Address"]) == ("10.191.0.128", "10.191.0.9", "fd00:191::2")
        link = engine.must("exec", "one", "ip", "-o", "addr", "show", "dev", "eth0")
        assert all(address in link for address in ("10.191.0.128/24", "fd00:191::2/64"))
        assert "mtu 1400" in engine.must("exec", "one", "ip", "link", "show", "dev", "eth0")
        assert "default via 10.191.0.9" in engine.must("exec", "one", "ip", "route")
        assert "default via fd00:191::1" in engine.must("exec", "one", "ip", "-6", "route")
        for address in ("10.191.0.1", "fd00:191::1"):
            engine.must("exec", "one", "ping", "-c", "1", "-W", "5", address)
        for address in ("10.191.0.129", "fd00:191::3"):
            assert engine.docker("exec", "one", "ping", "-c", "1", "-W", "1", address).exit_code == 1
        shown = json.loads(engine.must("network", "inspect", "-f", "{{json .}}", "bridge"))
        assert shown["EnableIPv6"] is True
        assert shown["IPAM"]["Config"] == [
            {
                "Subnet": "10.191.0.0/24",
                "IPRange": "10.191.0.128/25",
                "Gateway": "10.191.0.1",
                "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.191.0.9"},
            },
            {"Subnet": "fd00:191::/64", "IPRange": "fd00:191::/64", "Gateway": "fd00:191::1"},
        ]


@pytest.fixture
def own_bridge() -> Iterator[str]:
    """A bridge of the administrator's."""
    name = f"br-{secrets.token_hex(4)}"
    ip("link", "add", name, "type", "bridge")
    ip("addr", "add", "10.192.0.5/24", "dev", name)
    yield name
    ip("link", "delete", name)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def test_a_bridge_of_the_administrators_is_used_and_stays_as_it_was(own_bridge: str) -> None:
    with Engine(extra=("--bridge", own_bridge, "--icc=false")) as engine:
        engine.load(images.busybox().docker_archive())
        engine.must("run", "-d", "--name", "one", *SLEEP)
        shown = json.loads(engine.must("network", "inspect", "-f", "{{json .}}", "bridge"))
        assert shown["Options"]["com.docker.network.bridge.name"] == own_bridge
        assert shown["IPAM"]["Config"] == [{"Subnet": "10.192.0.0/24", "Gateway": "10.192.0.5"}]
        assert (endpoint(engine, "one")["IPAddress"], endpoint(engine, "one")["Gateway"]) == ("10.192.0.1", "10.192.0.5")
        engine.must("exec", "one", "ping", "-c", "1", "-W", "5", "10.192.0.5")
        assert "veth" in ip("link", "show", "master", own_bridge)
        engine.must("rm", "-f", "one")
    assert "inet 10.192.0.5/24" in ip("addr", "show", "dev", own_bridge)


def test_without_its_bridge_an_engine_says_so_and_does_not_start() -> None:
    engine = Engine(extra=("--bridge", "nosuch0"))
    try:
        with pytest.raises(EngineFailed, match="bridge device with non default name nosuch0 must be created manually"):
            engine.start()
    finally:
        engine.close()


def test_without_a_default_bridge_containers_have_loopback() -> None:
    with Engine(extra=("--bridge", "none")) as engine:
        engine.load(images.busybox().docker_archive())
        assert engine.must("network", "ls", "--format", "{{.Name}}").split() == ["host", "none"]
        engine.must("run", "-d", "--name", "box", "-p", "80", *SLEEP)
        assert engine.must("exec", "box", "ls", "/sys/class/net").split() == ["lo"]
        assert "127.0.0.1" in engine.must("exec", "box", "ip", "addr")
        assert endpoint(engine, "box")["IPAddress"] == ""
        engine.must("network", "create", "mine")
        engine.must("run", "-d", "--name", "other", "--network", "mine", *SLEEP)
        assert engine.must("exec", "other", "ls", "/sys/class/net").split() == ["eth0", "lo"]
        refused = engine.docker("network", "connect", "bridge", "other")
        assert "network bridge not found" in refused.stderr
        engine.stop()
        engine.start()
        engine.must("exec", "box", "true")
        engine.must("rm", "-f", "box", "other")
        engine.must("network", "rm", "mine")


def test_an_engine_that_comes_with_other_options_keeps_what_containers_have() -> None:
    with Engine() as engine:
        engine.load(images.busybox().docker_archive())
        engine.must("run", "-d", "--name", "box", *SLEEP)
        before = endpoint(engine, "box")
        engine.stop()
        engine._extra = ("--ipv6", "--fixed-cidr-v6", "fd00:192::/64")
        engine.start()
        assert endpoint(engine, "box") == before
        engine.must("rm", "-f", "box")
        engine.stop()
        engine.start()
        engine.must("run", "-d", "--name", "box", *SLEEP)
        assert endpoint(engine, "box")["GlobalIPv6Address"] == "fd00:192::2"


def test_an_endpoint_has_the_name_and_the_settings_that_were_asked_for(engine: Engine) -> None:
    engine.must("network", "create", "lan")
    options = "driver-opt=com.docker.network.endpoint.ifname=lan0"
    settings = '"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.arp_ignore=2"'
    engine.must("run", "-d", "--name", "box", "--network", f"name=lan,{options},{settings},driver-opt=own=thing", *SLEEP)
    for name, value in (("log_martians", "1"), ("arp_ignore", "2")):
        assert engine.must("exec", "box", "cat", f"/proc/sys/net/ipv4/conf/lan0/{name}") == value
    assert endpoint(engine, "box", "lan")["DriverOpts"] == {
        "com.docker.network.endpoint.ifname": "lan0",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.ifname.log_martians=1,net.ipv4.conf.ifname.arp_ignore=2",
        "own": "thing",
    }
    engine.must("network", "create", "other")
    engine.must("network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=far0", "other", "box")
    assert "far0" in engine.must("exec", "box", "ip", "-o", "link")
    taken = engine.docker("network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=lan0", "bridge", "box")
    assert (taken.exit_code, "File exists" in taken.stderr) == (1, True)
    wrong = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.nosuch=1"
    refused = engine.docker("run", "--name", "bad", "--network", f"name=lan,driver-opt={wrong}", *SLEEP)
    assert refused.exit_code == 125
    assert "/proc/sys/net/ipv4/conf/eth0/nosuch is not a sysctl file" in refused.stderr
    engine.must("rm", "-f", "box", "bad")
    engine.must("network", "rm", "lan", "other")


def test_who_is_linked_to_is_started_before_who_is_linked() -> None:
    """By their restart policies, when the machine has come up again: in whichever order they were made."""
    with Engine() as engine:
        engine.load(images.busybox().docker_archive())
        engine.must("run", "-d", "--name", "store", "--restart", "always", *SLEEP)
        engine.must("run", "-d", "--name", "web", "--restart", "always", "--link", "store:db", *SLEEP)
        engine.must("run", "-d", "--name", "last", "--restart", "always", "--link", "web", *SLEEP)
        engine.must("stop", "-t", "0", "last", "web", "store")
        engine.stop()
        Path(engine.root, "boot-id").write_text("another")
        engine.start()
        wanted = {"store", "web", "last"}
        running = ("ps", "--format", "{{.Names}}", "--filter", "status=running")
        eventually(lambda: set(engine.must(*running).split()) == wanted, "all of them run again")
        assert "Cannot link" not in engine.log_tail(), "each start waits for the one that it needs"
        engine.must("exec", "last", "ping", "-c", "1", "-W", "5", "web")


def test_links_are_there_for_the_next_engine(engine: Engine) -> None:
    """Both with the containers that go on, and with one that starts again at another address."""
    engine.must("run", "-d", "--name", "store", *SLEEP)
    engine.must("run", "-d", "--name", "web", "--link", "store:db", *SLEEP)
    former = endpoint(engine, "store")["IPAddress"]
    engine.kill9()
    engine.start()
    assert engine.must("inspect", "-f", "{{.Name}} {{json .HostConfig.Links}}", "web") == '/web ["/store:/web/db"]'
    engine.must("stop", "-t", "0", "store")
    engine.must("run", "-d", "--name", "taker", *SLEEP)
    engine.must("network", "disconnect", "bridge", "taker")
    engine.must("network", "connect", "bridge", "taker")
    engine.must("start", "store")
    address = endpoint(engine, "store")["IPAddress"]
    lines = [line for line in engine.must("exec", "web", "cat", "/etc/hosts").splitlines() if "store" in line]
    assert [line.split("\t")[0] for line in lines] == [address], former
    engine.must("exec", "web", "ping", "-c", "1", "-W", "5", "db")
    said = [engine.teul("-H", f"unix://{engine.socket_path}", "rm", "--link", name) for name in ("/web/db", "web/db")]
    assert [(each.exit_code, each.stdout) for each in said] == [(0, "/web/db\n"), (1, "")]
    assert said[1].stderr == "Error response from daemon: No such container: web/db\n"
    assert engine.must("inspect", "-f", "{{json .HostConfig.Links}}", "web") == "null"
    engine.must("rm", "-f", "web", "store", "taker")
