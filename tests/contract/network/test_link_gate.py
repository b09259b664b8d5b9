"""The ports that links open (`teul.network.firewall.linked.LinkGate`): the services' fake, and the kernel in a fresh namespace."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from contract.witness import Witness
from kernel.netns import isolated
from support.bridges import make_bridge
from support.needs import needs
from teul.network.firewall.linked import LinkedPort
from teul.network.host import HostNetwork
from unit.services.networks.fake_gate import FakeLinkGate
from unit.services.networks.test_service import NAMES, FakeHost

Check = Callable[[HostNetwork], None]
BRIDGE = make_bridge(NAMES.bridge, "172.17.0.0/16", has_icc=False)


@pytest.fixture(params=["fake", pytest.param("real", marks=needs("root", "nft"))])
def on_host(request: pytest.FixtureRequest, witness: Witness, tmp_path: Path) -> Callable[[Check], None]:
    """Runs a check on a host without networks; on the real one in a child, for it has a network namespace of its own."""
    if request.param == "fake":
        host = FakeHost()
        witness.watch(host.links)
        return lambda check: check(host)
    return lambda check: isolated(lambda: check(HostNetwork(NAMES, settings_file=str(tmp_path / "sysctls.json"))))()


def port(number: int, protocol: str = "tcp") -> LinkedPort:
    return LinkedPort(NAMES.bridge, IPv4Address("172.17.0.3"), IPv4Address("172.17.0.2"), protocol, number)


def test_elements_come_and_go_all_of_them_or_none(on_host: Callable[[Check], None]) -> None:
    def check(host: HostNetwork) -> None:
        with pytest.raises(FileNotFoundError):
            host.links.change([], [port(80)])
        with pytest.raises(FileNotFoundError):
            host.links.set([port(80)])
        host.ensure_firewall([host.ensure_bridge(BRIDGE)])
        host.links.change([], [port(80), port(53, "udp"), port(7, "sctp")])
        with pytest.raises(FileNotFoundError):
            host.links.change([port(81)], [port(82)])
        host.links.change([port(80)], [port(82)])
        with pytest.raises(FileNotFoundError):
            host.links.change([port(80)], [])
        host.ensure_firewall([BRIDGE])
        host.links.change([port(82)], [])
        host.links.change([], [port(53, "udp")])
        host.links.set([port(81)])
        host.links.close()
        with pytest.raises(FileNotFoundError):
            host.links.change([port(53, "udp")], [])
        host.links.change([port(81)], [])
        host.remove()
        with pytest.raises(FileNotFoundError):
            host.links.set([])

    on_host(check)


def test_every_method_was_called(whole_suite: Witness) -> None:
    assert whole_suite.uncalled(FakeLinkGate) == set()
