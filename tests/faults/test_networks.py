"""What an engine makes on the host: bridges and rules, before any container starts, and with the networks of its users."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from faults.judge import assert_ends, assert_usable, assert_whole
from faults.victim import Victim, cases
from support.needs import missing, needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs", "nft")]


@cases(
    {
        "networks.bridge.made": "kill error",
        "networks.bridge.recorded": "kill",
        "networks.firewall.made": "kill error",
    },
)
def test_network_is_set_up_in_the_end(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """By the next engine, or when a container needs it."""
    victim.stop()
    victim.arm(point, way, occurrence=occurrence)
    if way == "kill":
        victim.start_and_die()
    else:
        victim.start()
        victim.await_strike(point, way)
    assert_usable(victim, "hit")
    table = subprocess.run(["nft", "list", "table", "inet", victim.names.table], check=True, capture_output=True, text=True).stdout
    assert f'elements = {{ "{victim.names.bridge}" }}' in table
    victim.stop()
    eventually(lambda: victim.links() == [], "no link is left")
    assert not victim.has_network(), "what was set up outlives an engine without containers"
    victim.start()
    assert_whole(victim)


@cases(
    {
        "networks.create.chosen": "kill cancel error",
        "networks.create.recorded": "kill cancel error",
        "networks.bridge.made": "kill cancel error",
        "store.transaction.worked": "kill full",
    },
)
def test_network_is_made_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """One that is known works; one that is not can be made."""
    response = victim.strike(point, way, "POST", "/networks/create", {"Name": "mine"}, occurrence=occurrence)
    if response is not None and response.status != 201:
        assert not victim.knows_network("mine"), response.message
    if not victim.knows_network("mine"):
        victim.want(201, "POST", "/networks/create", {"Name": "mine"})
    victim.run("hit", HostConfig={"NetworkMode": "mine"})
    assert_whole(victim)
    assert_ends(victim, "hit")
    victim.want(204, "DELETE", "/networks/mine")
    assert_usable(victim, "hit")


@cases(
    {
        "networks.remove.forgotten": "kill cancel",
        "networks.withdrawn.firewall": "kill cancel error",
        "store.transaction.worked": "kill",
    },
)
def test_network_is_removed_in_the_end(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.want(201, "POST", "/networks/create", {"Name": "mine"})
    victim.strike(point, way, "DELETE", "/networks/mine", occurrence=occurrence)
    if victim.knows_network("mine"):
        victim.want(204, "DELETE", "/networks/mine")
    assert_whole(victim)
    assert_usable(victim, "hit")


@cases(
    {
        "networks.address.held": "kill cancel error",
        "containers.connect.linked": "kill cancel error",
        "store.transaction.worked": "kill full kill@2 full@2",
        "containers.connect.recorded": "kill cancel",
    },
)
def test_container_is_connected_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """Whichever it is, its record, its links and its addresses agree, and it goes on to run. The network, by its name, becomes its way out."""
    victim.want(201, "POST", "/networks/create", {"Name": "away"})
    victim.run("hit")
    response = victim.strike(point, way, "POST", "/networks/away/connect", {"Container": "hit"}, occurrence=occurrence)
    assert_whole(victim)
    networks = victim.find("hit")["NetworkSettings"]["Networks"]
    if response is not None and response.status != 200:
        assert set(networks) == {"bridge"}, response.message
    if "away" not in networks:
        victim.want(200, "POST", "/networks/away/connect", {"Container": "hit"})
    assert_whole(victim)
    assert_ends(victim, "hit")
    victim.want(204, "DELETE", "/networks/away")
    assert_usable(victim, "hit")


@cases(
    {
        "store.transaction.worked": "kill full kill@2",
        "containers.disconnect.routed": "kill cancel error",
        "containers.disconnect.recorded": "kill cancel error",
        "networks.address.forgotten": "kill",
    },
)
def test_container_is_disconnected_in_the_end(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.want(201, "POST", "/networks/create", {"Name": "away"})
    victim.run("hit", HostConfig={"NetworkMode": "away"})
    victim.want(200, "POST", "/networks/bridge/connect", {"Container": "hit"})
    victim.strike(point, way, "POST", "/networks/away/disconnect", {"Container": "hit"}, occurrence=occurrence)
    if "away" in victim.find("hit")["NetworkSettings"]["Networks"]:
        victim.want(200, "POST", "/networks/away/disconnect", {"Container": "hit"})
    assert_whole(victim)
    assert_ends(victim, "hit")
    victim.want(204, "DELETE", "/networks/away")
    assert_usable(victim, "hit")


@cases(
    {
        "networks.ports.reserved": "kill cancel error",
        "networks.ports.published": "kill cancel error",
        "containers.start.running": "kill cancel",
        "store.transaction.worked": "kill full kill@2",
    },
)
def test_port_is_published_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """As the container runs or not; and it can be had by the next."""
    port = free_port()
    published = {"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}}
    container = victim.create("hit", HostConfig=published)
    response = victim.strike(point, way, "POST", f"/containers/{container}/start", occurrence=occurrence)
    assert_whole(victim)
    if response is not None and response.status != 204:
        assert is_free(port), response.message
    if victim.status("hit") != "running":
        victim.want(204, "POST", f"/containers/{container}/start")
    assert_whole(victim)
    assert_published(victim, "hit", port)
    assert_ends(victim, "hit")
    assert is_free(port)
    victim.run("next", HostConfig=published)
    assert_published(victim, "next", port)
    victim.want(204, "DELETE", "/containers/next?force=1")
    assert_usable(victim, "hit")


@cases({"networks.ports.withdrawn": "kill error", "networks.address.forgotten": "kill"})
def test_port_is_given_back_in_the_end(victim: Victim, point: str, way: str, occurrence: int) -> None:
    port = free_port()
    victim.run("hit", HostConfig={"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}})
    victim.arm(point, way, occurrence=occurrence)
    victim.tell("hit")
    victim.await_strike(point, way)
    eventually(lambda: victim.status("hit") == "exited", "it has ended")
    assert_whole(victim)
    assert is_free(port)
    assert_usable(victim, "hit")


@cases(
    {
        "networks.ports.reserved": "kill cancel error",
        "networks.ports.published": "kill cancel error",
        "store.transaction.worked": "kill full kill@2",
    },
)
def test_port_leads_to_one_network_or_the_other(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """`a` comes before `bridge`: connecting makes it the way out."""
    victim.want(201, "POST", "/networks/create", {"Name": "a"})
    port = free_port()
    victim.run("hit", HostConfig={"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}})
    victim.strike(point, way, "POST", "/networks/a/connect", {"Container": "hit"}, occurrence=occurrence)
    assert_whole(victim)
    assert_published(victim, "hit", port)
    assert_ends(victim, "hit")
    assert is_free(port)
    victim.want(204, "DELETE", "/containers/hit")
    victim.want(204, "DELETE", "/networks/a")
    assert_usable(victim, "hit")


@cases({"containers.ports.moved": "kill cancel error", "store.transaction.worked": "kill full", "networks.ports.reserved": "kill"})
def test_port_is_published_later_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    port = free_port()
    victim.run("hit")
    body = {"Add": {"80/tcp": [{"HostPort": str(port)}]}}
    victim.strike(point, way, "POST", "/teul/containers/hit/ports", body, occurrence=occurrence)
    assert_whole(victim)
    if not victim.find("hit")["HostConfig"]["PortBindings"]:
        assert is_free(port)
        victim.want(200, "POST", "/teul/containers/hit/ports", body)
    assert_published(victim, "hit", port)
    assert_whole(victim)
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases({"networks.relays.put": "kill"})
def test_port_is_relayed_in_the_end(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """Whoever comes meanwhile waits; the next engine and the agent keep the port between them."""
    port = free_port()
    published = {"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}}
    container = victim.create("hit", HostConfig=published)
    victim.strike(point, way, "POST", f"/containers/{container}/start", occurrence=occurrence)
    assert victim.status("hit") == "running"
    assert_published(victim, "hit", port)
    eventually(lambda: is_reset("::1", port), "the relay finds nobody in the container")
    assert_whole(victim)
    assert_ends(victim, "hit")
    assert is_free(port)
    assert_usable(victim, "hit")


def is_reset(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=20) as client:
            client.recv(1)
    except ConnectionResetError:
        return True
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def assert_published(victim: Victim, name: str, port: int) -> None:
    places = [{"HostIp": address, "HostPort": str(port)} for address in ("0.0.0.0", "::")]
    assert victim.find(name)["NetworkSettings"]["Ports"] == {"80/tcp": places}
    assert not is_free(port), "the engine keeps it from others"


@pytest.fixture
def parent() -> Iterator[str]:
    """The name of an interface of the host; where the kernel has VLANs, of one on it, that is not there yet."""
    name = f"tlw{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}x"], check=True)
    try:
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name if missing("vlan") else f"{name}.50"
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


@contextlib.contextmanager
def without_network(victim: Victim, name: str) -> Iterator[None]:
    """Its parent goes before the network can be removed by the victim's own end."""
    try:
        yield
    finally:
        if victim.knows_network(name):
            victim.want(204, "DELETE", f"/networks/{name}")


@needs("macvlan")
@cases(
    {"networks.parent.made": "kill cancel error", "networks.create.recorded": "kill cancel error", "store.transaction.worked": "kill full"}
)
def test_network_without_a_bridge_is_made_or_not(victim: Victim, parent: str, point: str, way: str, occurrence: int) -> None:
    """The parent that was made for it is there as long as the network is."""
    wanted = {"Name": "mine", "Driver": "macvlan", "Options": {"parent": parent}, "IPAM": {"Config": [{"Subnet": "192.0.2.0/24"}]}}
    response = victim.strike(point, way, "POST", "/networks/create", wanted, occurrence=occurrence)
    if response is not None and response.status != 201:
        assert not victim.knows_network("mine"), response.message
    assert_whole(victim)
    if not victim.knows_network("mine"):
        victim.want(201, "POST", "/networks/create", wanted)
    with without_network(victim, "mine"):
        victim.run("hit", HostConfig={"NetworkMode": "mine"})
        assert_whole(victim)
        assert_ends(victim, "hit")
        victim.want(204, "DELETE", "/containers/hit")
    assert_whole(victim)
    assert_usable(victim, "hit")


@needs("macvlan")
@cases({"networks.remove.forgotten": "kill cancel", "store.transaction.worked": "kill"})
def test_network_without_a_bridge_is_removed_in_the_end(victim: Victim, parent: str, point: str, way: str, occurrence: int) -> None:
    wanted = {"Name": "mine", "Driver": "macvlan", "Options": {"parent": parent}, "IPAM": {"Config": [{"Subnet": "192.0.2.0/24"}]}}
    victim.want(201, "POST", "/networks/create", wanted)
    with without_network(victim, "mine"):
        victim.strike(point, way, "DELETE", "/networks/mine", occurrence=occurrence)
    assert_whole(victim)
    assert_usable(victim, "hit")


@needs("macvlan")
@cases({"containers.connect.linked": "kill cancel error", "containers.disconnect.recorded": "kill cancel error"})
def test_link_without_an_end_on_the_host_comes_and_goes(victim: Victim, parent: str, point: str, way: str, occurrence: int) -> None:
    """Inside there is a link for each network of the record, when it is connected and disconnected again."""
    wanted = {"Name": "mine", "Driver": "macvlan", "Options": {"parent": parent}, "IPAM": {"Config": [{"Subnet": "192.0.2.0/24"}]}}
    victim.want(201, "POST", "/networks/create", wanted)
    with without_network(victim, "mine"):
        victim.run("hit")
        verbs = ("connect", "disconnect")
        for verb in verbs:
            if point.split(".")[1] == verb:
                victim.strike(point, way, "POST", f"/networks/mine/{verb}", {"Container": "hit"}, occurrence=occurrence)
            connected = "mine" in victim.find("hit")["NetworkSettings"]["Networks"]
            if connected != (verb == "connect"):
                victim.want(200, "POST", f"/networks/mine/{verb}", {"Container": "hit"})
            assert_whole(victim)
        assert_ends(victim, "hit")
        victim.want(204, "DELETE", "/containers/hit")
    assert_whole(victim)
    assert_usable(victim, "hit")
