"""The host side of an engine's networks (`teul.network.host.HostNetwork`): the services' fake, and the kernel in a fresh namespace."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Callable

import pytest

from contract.witness import Witness
from kernel.netns import isolated
from support.needs import needs
from teul.network.host import HostNetwork
from unit.services.networks.test_service import NAMES, FakeHost

Check = Callable[[HostNetwork], None]


@pytest.fixture(params=["fake", pytest.param("real", marks=needs("root"))])
def on_host(request: pytest.FixtureRequest, witness: Witness) -> Callable[[Check], None]:
    """Runs a check on a host without networks; on the real one in a child, for it has a network namespace of its own."""
    if request.param == "fake":
        return lambda check: check(witness.watch(FakeHost()))
    return lambda check: isolated(lambda: check(HostNetwork(NAMES)))()


def plug_in(host: HostNetwork, *names: str) -> None:
    """Put links on the bridge, as starting containers does."""
    if isinstance(host, FakeHost):
        host.ports += names
        return
    for name in names:
        subprocess.run(["ip", "link", "add", name, "master", host.names.bridge, "type", "veth", "peer", "name", f"{name}-in"], check=True)


def test_a_bridge_is_made_once_and_taken_over_from_then_on(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        made = host.ensure_bridge(recorded=None, is_in_use=False)
        assert made.name == host.names.bridge
        assert made.subnet.prefixlen == 16
        assert made.gateway == made.subnet.network_address + 1
        assert 1280 <= made.mtu <= 1500
        for is_in_use in (False, True):
            assert host.ensure_bridge(recorded=made.subnet, is_in_use=is_in_use) == made

    on_host(check)


def test_a_recorded_subnet_is_kept(on_host: Callable[[Check], None]) -> None:
    recorded = ipaddress.ip_network("172.29.0.0/16")

    def check(host: HostNetwork) -> None:
        assert host.ensure_bridge(recorded=recorded, is_in_use=True).subnet == recorded

    on_host(check)


def test_rules_are_set_for_any_number_of_networks_and_again(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        bridge = host.ensure_bridge(recorded=None, is_in_use=False)
        for networks in ([bridge], [bridge], []):
            host.ensure_firewall(networks)
            host.ensure_forwarding(networks)

    on_host(check)


def test_ports_are_those_on_the_bridge(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        assert host.list_ports() == [], "there is no bridge yet"
        host.ensure_bridge(recorded=None, is_in_use=False)
        assert host.list_ports() == []
        plug_in(host, "one", "two")
        assert sorted(host.list_ports()) == ["one", "two"]

    on_host(check)


def test_only_ports_are_removed_and_what_was_removed_is_told(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        assert host.remove_ports({"one"}) == [], "there is no bridge yet"
        host.ensure_bridge(recorded=None, is_in_use=False)
        plug_in(host, "one", "two", "three")
        assert host.remove_ports(set()) == []
        assert sorted(host.remove_ports({"one", "three", "lo", "gone"})) == ["one", "three"]
        assert host.list_ports() == ["two"]
        assert host.remove_ports({"one"}) == []

    on_host(check)


def test_after_the_removal_nothing_is_there_and_all_can_be_made_again(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        host.remove()
        bridge = host.ensure_bridge(recorded=None, is_in_use=False)
        host.ensure_firewall([bridge])
        plug_in(host, "one")
        host.remove()
        assert host.list_ports() == []
        host.remove()
        assert host.ensure_bridge(recorded=bridge.subnet, is_in_use=False) == bridge

    on_host(check)


def test_every_method_was_called(whole_suite: Witness) -> None:
    assert whole_suite.uncalled(FakeHost) == set()
