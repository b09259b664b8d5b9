"""Egress policies on the host (`teul.network.firewall.gate.EgressGate`): the services' fake, and the kernel in a fresh namespace."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.witness import Witness
from kernel.netns import isolated
from support.bridges import make_bridge
from support.needs import needs
from teul.model.container import ContainerEndpoint
from teul.network.firewall.egress import Element, container_elements, network_elements
from teul.network.host import HostNetwork
from unit.services.networks.fake_gate import FakeGate
from unit.services.networks.test_service import NAMES, FakeHost

Check = Callable[[HostNetwork], None]
BRIDGE = make_bridge(NAMES.bridge, "172.17.0.0/16")


@pytest.fixture(params=["fake", pytest.param("real", marks=needs("root", "nft"))])
def on_host(request: pytest.FixtureRequest, witness: Witness, tmp_path: Path) -> Callable[[Check], None]:
    """Runs a check on a host without networks; on the real one in a child, for it has a network namespace of its own."""
    if request.param == "fake":
        host = FakeHost()
        witness.watch(host.egress)
        return lambda check: check(host)
    return lambda check: isolated(lambda: check(HostNetwork(NAMES, settings_file=str(tmp_path / "sysctls.json"))))()


def held(*allowed: str) -> frozenset[Element]:
    endpoint = ContainerEndpoint(network_name="n", network_id="n", endpoint_id="e", ipv4="172.17.0.2", host_interface="veth1")
    return container_elements({NAMES.bridge: [endpoint]}, [ipaddress.ip_network(text) for text in allowed])


def test_without_a_firewall_there_are_no_policies(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        with pytest.raises(FileNotFoundError):
            host.egress.change([], network_elements(NAMES.bridge, []))
        with pytest.raises(FileNotFoundError):
            host.egress.set(held("10.0.0.0/8"))
        with pytest.raises(FileNotFoundError):
            host.egress.resolve({("172.17.0.2", ipaddress.ip_address("192.0.2.1")): 60})
        with pytest.raises(FileNotFoundError):
            host.egress.refusals()
        host.egress.forget(["172.17.0.2"])
        host.egress.remove_guard()

    on_host(check)


def test_elements_come_and_go_all_of_them_or_none(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        host.ensure_firewall([host.ensure_bridge(BRIDGE)])
        host.egress.change([], network_elements(NAMES.bridge, []))
        with pytest.raises(FileNotFoundError):
            host.egress.change(network_elements(NAMES.bridge, []), held("10.0.0.0/8"))
        host.egress.set(network_elements(NAMES.bridge, []) | held("10.0.0.0/8"))
        with pytest.raises(FileExistsError):
            host.egress.change([], held("10.1.0.0/16"))
        host.ensure_firewall([BRIDGE])
        host.egress.change(held("10.0.0.0/8") - held(), held("10.1.0.0/16") - held())
        with pytest.raises(FileNotFoundError):
            host.egress.change(held("10.0.0.0/8"), [])
        host.egress.change(held("10.1.0.0/16") | network_elements(NAMES.bridge, []), [])
        host.egress.set([])
        with pytest.raises(FileNotFoundError):
            host.egress.change([], held())
        host.egress.close()
        host.egress.set(held())
        host.remove()
        with pytest.raises(FileNotFoundError):
            host.egress.set(held())

    on_host(check)


def test_addresses_of_names_are_allowed_and_forgotten(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        host.ensure_firewall([host.ensure_bridge(BRIDGE)])
        address = ipaddress.ip_address("192.0.2.1")
        for seconds in (60, 30, 90):
            host.egress.resolve({("172.17.0.2", address): seconds, (NAMES.bridge, address): seconds})
        host.egress.keep({"172.17.0.2": ["192.0.2.1"], NAMES.bridge: []})
        host.egress.forget(["172.17.0.2"])
        host.egress.forget([NAMES.bridge], others=True)
        host.egress.forget([])
        assert host.egress.refusals() == []

    on_host(check)


def test_every_method_was_called(whole_suite: Witness) -> None:
    assert whole_suite.uncalled(FakeGate) == set()
