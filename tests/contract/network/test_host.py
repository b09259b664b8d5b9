"""The host side of an engine's networks (`teul.network.host.HostNetwork`): the services' fake, and the kernel in a fresh namespace."""

from __future__ import annotations

import dataclasses
import ipaddress
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.witness import Witness
from kernel.netns import isolated
from support.bridges import make_bridge
from support.needs import needs
from teul.network.bridge import SubnetTaken
from teul.network.firewall.ports import Forwarding, Relayed
from teul.network.host import HostNetwork
from teul.network.wire import ParentUnusable, Wire
from unit.services.networks.test_service import NAMES, PARENT_MAC, FakeHost

Check = Callable[[HostNetwork], None]
BRIDGE = make_bridge(NAMES.bridge, "172.17.0.0/16")
OTHER = make_bridge("tl-other", "10.9.0.0/24", "fd99::/64", is_internal=True, mtu=1400)


@pytest.fixture(params=["fake", pytest.param("real", marks=needs("root"))])
def on_host(request: pytest.FixtureRequest, witness: Witness, tmp_path: Path) -> Callable[[Check], None]:
    """Runs a check on a host without networks; on the real one in a child, for it has a network namespace of its own."""
    if request.param == "fake":
        return lambda check: check(witness.watch(FakeHost()))
    return lambda check: isolated(lambda: check(HostNetwork(NAMES, settings_file=str(tmp_path / "sysctls.json"))))()


def plug_in(host: HostNetwork, *names: str) -> None:
    """Put links on the bridge, as starting containers does."""
    if isinstance(host, FakeHost):
        host.ports += names
        return
    for name in names:
        subprocess.run(["ip", "link", "add", name, "master", host.names.bridge, "type", "veth", "peer", "name", f"{name}-in"], check=True)


def test_a_bridge_is_made_once_and_taken_over_from_then_on(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        made = host.ensure_bridge(BRIDGE, is_exclusive=True)
        assert made.segments == BRIDGE.segments
        assert 1280 <= made.mtu <= 1500
        for is_exclusive in (False, True):
            assert host.ensure_bridge(BRIDGE, is_exclusive=is_exclusive) == made
        assert host.ensure_bridge(OTHER).mtu == 1400

    on_host(check)


def test_what_another_bridge_has_is_claimed_and_not_to_be_had_alone(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        host.ensure_bridge(BRIDGE)
        subnet = BRIDGE.segments[0].subnet
        assert subnet in host.claimed_subnets()
        assert subnet not in host.claimed_subnets(except_bridge=BRIDGE.name)
        with pytest.raises(SubnetTaken):
            host.ensure_bridge(make_bridge("tl-rival", "172.17.9.0/24"), is_exclusive=True)
        host.ensure_bridge(make_bridge("tl-rival", "172.17.9.0/24"))

    on_host(check)


def test_networks_come_and_go_one_by_one(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        first, second = host.ensure_bridge(BRIDGE), host.ensure_bridge(OTHER)
        host.ensure_firewall([first])
        host.add_to_firewall(second, [first, second])
        host.remove_from_firewall(second, [first])
        host.remove_link(second)
        host.remove_link(second)
        assert host.remove_other_links([BRIDGE.name]) == []
        host.ensure_bridge(OTHER)
        assert host.remove_other_links([BRIDGE.name]) == [OTHER.name]

    on_host(check)


WIRE = Wire(kind="macvlan", parent="uplink", mode="bridge")


def test_a_parent_that_is_there_is_used_and_stays(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        if not isinstance(host, FakeHost):
            subprocess.run(["ip", "link", "add", "uplink", "address", PARENT_MAC, "type", "veth", "peer", "name", "wire"], check=True)
        assert host.ensure_parent(WIRE).parent_mac == PARENT_MAC
        host.remove_link(WIRE)
        assert host.remove_other_links([]) == []
        assert host.ensure_parent(WIRE).parent == "uplink"

    on_host(check)


def test_a_parent_that_cannot_be_is_told_in_dockers_words(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        with pytest.raises(ParentUnusable, match=r"^-o parent interface was not found on the host: absent$"):
            host.ensure_parent(dataclasses.replace(WIRE, parent="absent.50"))
        host.remove_link(dataclasses.replace(WIRE, parent="absent.50"))

    on_host(check)


@pytest.mark.parametrize("on_host", ["fake", pytest.param("real", marks=needs("root", "vlan", "dummy"))], indirect=True)
def test_parents_that_were_made_go_with_their_networks(on_host: Callable[[Check], None]) -> None:
    vlan = dataclasses.replace(WIRE, parent="uplink.50")
    dummy = Wire(kind="ipvlan", parent="di-0123456789ab", mode="l2", is_dummy=True)

    def check(host: HostNetwork) -> None:
        if not isinstance(host, FakeHost):
            subprocess.run(["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "wire"], check=True)
            subprocess.run(["ip", "link", "set", "uplink", "up"], check=True)
        for _time in range(2):
            host.ensure_parent(vlan)
            host.ensure_parent(dummy)
        host.remove_link(vlan)
        host.remove_link(vlan)
        assert host.remove_other_links([dummy.parent]) == []
        host.ensure_parent(vlan)
        assert host.remove_other_links([dummy.parent]) == [vlan.parent]
        assert host.remove_other_links([]) == [dummy.parent]

    on_host(check)


def test_rules_are_set_for_any_number_of_networks_and_again(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        bridge = host.ensure_bridge(BRIDGE)
        for networks in ([bridge], [bridge], []):
            host.ensure_firewall(networks)
            host.ensure_forwarding(networks)

    on_host(check)


def test_ports_are_those_on_the_bridge(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        assert host.list_ports([BRIDGE]) == [], "there is no bridge yet"
        host.ensure_bridge(BRIDGE)
        assert host.list_ports([BRIDGE]) == []
        plug_in(host, "one", "two")
        assert sorted(host.list_ports([BRIDGE])) == ["one", "two"]

    on_host(check)


def test_only_ports_are_removed_and_what_was_removed_is_told(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        assert host.remove_ports([BRIDGE], {"one"}) == [], "there is no bridge yet"
        host.ensure_bridge(BRIDGE)
        plug_in(host, "one", "two", "three")
        assert host.remove_ports([BRIDGE], set()) == []
        assert sorted(host.remove_ports([BRIDGE], {"one", "three", "lo", "gone"})) == ["one", "three"]
        assert host.list_ports([BRIDGE]) == ["two"]
        assert host.remove_ports([BRIDGE], {"one"}) == []

    on_host(check)


def test_ports_are_led_to_containers_all_of_them_or_none(on_host: Callable[[Check], None]) -> None:
    def forwarding(port: int, target: str = "172.17.0.2", address: str = "0.0.0.0") -> Forwarding:
        return Forwarding(
            address=ipaddress.ip_address(address), protocol="tcp", port=port, target=ipaddress.ip_address(target), target_port=80
        )

    def check(host: HostNetwork) -> None:
        with pytest.raises(FileNotFoundError):
            host.change_published([], [forwarding(1)])
        bridge = host.ensure_bridge(BRIDGE)
        host.ensure_firewall([bridge])
        host.change_published([], [forwarding(1), forwarding(2), forwarding(1, address="192.0.2.1")])
        with pytest.raises(FileExistsError):
            host.change_published([], [forwarding(3), forwarding(1, "172.17.0.3")])
        with pytest.raises(FileNotFoundError):
            host.change_published([forwarding(2), forwarding(3)], [])
        relayed = Relayed(protocol="tcp", port=1)
        for _ in range(2):
            host.change_published([], [relayed])
        host.ensure_firewall([bridge])
        host.change_published([relayed], [])
        with pytest.raises(FileNotFoundError):
            host.change_published([relayed], [])
        host.change_published([forwarding(2)], [forwarding(2, "172.17.0.3")])
        host.set_published([forwarding(3), forwarding(1)])
        host.close()
        host.change_published([forwarding(3), forwarding(1)], [])
        with pytest.raises(FileNotFoundError):
            host.change_published([forwarding(1)], [])

    on_host(check)


def test_after_the_removal_nothing_is_there_and_all_can_be_made_again(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        host.remove()
        bridge = host.ensure_bridge(BRIDGE)
        host.ensure_firewall([bridge])
        plug_in(host, "one")
        host.remove()
        assert host.list_ports([BRIDGE]) == []
        host.remove()
        assert host.ensure_bridge(BRIDGE) == bridge

    on_host(check)


def test_every_method_was_called(whole_suite: Witness) -> None:
    assert whole_suite.uncalled(FakeHost) == set()
