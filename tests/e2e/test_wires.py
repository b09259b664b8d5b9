"""Containers on macvlan networks, of an engine that is killed and comes back; an interface of the host's is the parent."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from support.engine import Engine
from support.needs import missing, needs
from support.polling import eventually

pytestmark = needs("root", "docker_cli", "busybox", "overlayfs", "nft", "macvlan")

_IDLE = ("busybox", "sleep", "1000")


@pytest.fixture
def parent(fresh_engine: Engine) -> Iterator[str]:
    """A link of the host's that is up, and gone after the engine's containers."""
    name = f"tlw{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}x"], check=True)
    try:
        for end in (name, f"{name}x"):
            subprocess.run(["ip", "link", "set", end, "up"], check=True)
        yield name
        fresh_engine.remove_containers()
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def pings(engine: Engine, container: str, target: str) -> bool:
    return engine.docker("exec", container, "ping", "-c", "1", "-W", "2", target).exit_code == 0


def interfaces(engine: Engine, container: str) -> list[str]:
    return engine.must("exec", container, "ls", "/sys/class/net").split()


def test_names_links_and_addresses_outlive_the_engine(fresh_engine: Engine, parent: str) -> None:
    engine = fresh_engine
    engine.must("network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "-o", f"parent={parent}", "lan")
    for name in ("first", "second"):
        engine.must("run", "-d", "--name", name, "--network", "lan", *_IDLE)
    assert pings(engine, "first", "second"), "by its name"
    addresses = [engine.inspect(name)["NetworkSettings"]["Networks"]["lan"]["IPAddress"] for name in ("first", "second")]
    engine.kill9()
    engine.start()
    assert pings(engine, "second", "first")
    assert [engine.inspect(name)["NetworkSettings"]["Networks"]["lan"]["IPAddress"] for name in ("first", "second")] == addresses
    engine.must("restart", "-t", "0", "first")
    assert engine.inspect("first")["NetworkSettings"]["Networks"]["lan"]["IPAddress"] == addresses[0], "also while its last link goes"
    assert pings(engine, "second", "first")
    assert "has active endpoints" in engine.docker("network", "rm", "lan").stderr


def test_a_network_is_connected_and_disconnected_while_a_container_runs(fresh_engine: Engine, parent: str) -> None:
    engine = fresh_engine
    engine.must(
        *("network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.254", "-o", f"parent={parent}", "a-lan")
    )
    engine.must("network", "create", "own")
    engine.must("run", "-d", "--name", "box", "--network", "own", *_IDLE)
    engine.must("run", "-d", "--name", "other", "--network", "a-lan", *_IDLE)
    assert interfaces(engine, "box") == ["eth0", "lo"]
    engine.must("network", "connect", "a-lan", "box")
    assert interfaces(engine, "box") == ["eth0", "eth1", "lo"]
    assert pings(engine, "box", "other")
    assert "default via 192.0.2.254 dev eth1" in engine.must("exec", "box", "ip", "route"), "the first by name"
    engine.kill9()
    engine.start()
    engine.must("network", "disconnect", "a-lan", "box")
    assert interfaces(engine, "box") == ["eth0", "lo"]
    assert "dev eth0" in engine.must("exec", "box", "ip", "route", "show", "default")
    assert not pings(engine, "box", "other")


def test_a_parent_that_is_gone_is_named_when_a_container_starts(fresh_engine: Engine, parent: str) -> None:
    engine = fresh_engine
    pair = ["ip", "link", "add", f"{parent}y", "type", "veth", "peer", "name", f"{parent}z"]
    subprocess.run(pair, check=True)
    try:
        engine.must("network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "-o", f"parent={parent}y", "lan")
    finally:
        subprocess.run(["ip", "link", "delete", f"{parent}y"], check=True)
    failed = engine.docker("run", "--rm", "--network", "lan", "busybox", "true")
    assert failed.exit_code == 125
    assert f"the requested parent interface {parent}y was not found on the Docker host" in failed.stderr
    subprocess.run(pair, check=True)
    try:
        assert engine.docker("run", "--rm", "--network", "lan", "busybox", "true").exit_code == 0
    finally:
        subprocess.run(["ip", "link", "delete", f"{parent}y"], check=True)


@needs("vlan")
def test_a_vlan_is_made_again_for_an_engine_that_finds_its_networks(fresh_engine: Engine, parent: str) -> None:
    engine = fresh_engine
    engine.must("network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "-o", f"parent={parent}.50", "lan")
    link = f"/sys/class/net/{parent}.50"
    engine.stop()
    assert not os.path.exists(link), "no container needs it"
    engine.start()
    eventually(lambda: os.path.exists(link), "the VLAN is there again")
    engine.must("run", "-d", "--name", "box", "--network", "lan", *_IDLE)
    engine.must("rm", "-f", "box")
    engine.must("network", "rm", "lan")
    assert not os.path.exists(link)


@pytest.mark.skipif(missing("dummy") is None, reason="the kernel has dummies")
def test_a_kernel_without_dummies_says_so(fresh_engine: Engine) -> None:
    refused = fresh_engine.docker("network", "create", "-d", "macvlan", "nowhere")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error response from daemon: RTM_NEWLINK `dm-")
    assert "not supported" in refused.stderr
    assert fresh_engine.docker("network", "inspect", "nowhere").exit_code == 1
