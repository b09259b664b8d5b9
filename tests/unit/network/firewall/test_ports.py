"""Published ports as elements of the engine's table."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest

from teul.model.container import ContainerEndpoint, PublishedPort
from teul.network.firewall import ports
from teul.network.firewall.ports import Forwarding, Relayed


def published(host_address: str, host_port: int = 8080, protocol: str = "tcp") -> PublishedPort:
    return PublishedPort(container_port=80, protocol=protocol, host_address=host_address, host_port=host_port)


def endpoint(*places: PublishedPort, ipv6: str = "fd00::2") -> ContainerEndpoint:
    return ContainerEndpoint(network_name="n", network_id="n", endpoint_id="e", ipv4="172.17.0.2", ipv6=ipv6, ports=places)


ALL = endpoint(published("0.0.0.0"), published("::"), published("192.0.2.1", 53, "udp"), published("2001:db8::1", 9, "sctp"))


def test_a_port_is_one_element_of_the_map_for_its_address() -> None:
    assert ports.render_published("teul", ports.forwardings(ALL)).splitlines() == [
        "add element inet teul ports4 { tcp . 8080 : 172.17.0.2 . 80 }",
        "add element inet teul ports6 { tcp . 8080 : fd00::2 . 80 }",
        "add element inet teul bound4 { 192.0.2.1 . udp . 53 : 172.17.0.2 . 80 }",
        "add element inet teul bound6 { 2001:db8::1 . sctp . 9 : fd00::2 . 80 }",
    ]
    added, removed = ports.render_published("teul", ports.forwardings(ALL)), ports.render_withdrawn("teul", ports.forwardings(ALL))
    assert removed == added.replace("add", "delete")
    assert ports.render_published("teul", []) == ""


def test_all_are_replaced_in_one_script() -> None:
    script = ports.render_exactly("teul", ports.forwardings(ALL)).splitlines()
    assert script[:4] == [f"flush map inet teul {name}" for name in ("ports4", "ports6", "bound4", "bound6")]
    assert len(script) == 9


def test_a_relayed_port_is_an_element_that_internal_networks_are_kept_from_it_by() -> None:
    relayed = [Relayed(protocol="tcp", port=8080), Relayed(protocol="udp", port=53)]
    assert ports.render_published("teul", relayed) == "add element inet teul relayed { tcp . 8080 : drop, udp . 53 : drop }\n"
    assert ports.render_withdrawn("teul", relayed[:1]) == "delete element inet teul relayed { tcp . 8080 : drop }\n"
    assert ports.render_exactly("teul", relayed).splitlines()[4] == "flush map inet teul relayed"


def test_what_the_kernel_cannot_lead_to_the_container_has_no_element() -> None:
    assert ports.forwardings(endpoint(published("::1"))) == []
    assert ports.forwardings(endpoint(published("::"), published("2001:db8::1"), ipv6="")) == []
    assert [str(each.address) for each in ports.forwardings(endpoint(published("0.0.0.0"), published("::"), ipv6=""))] == ["0.0.0.0"]


def test_nothing_but_ports_gets_into_a_script() -> None:
    [forwarding] = ports.forwardings(endpoint(published("0.0.0.0")))
    with pytest.raises(ValueError, match="not a protocol"):
        ports.render_published("teul", [dataclasses.replace(forwarding, protocol="tcp } ; drop")])
    with pytest.raises(ValueError, match="not a name"):
        ports.render_exactly("a b", [])
    assert forwarding == Forwarding(
        address=ipaddress.IPv4Address("0.0.0.0"), protocol="tcp", port=8080, target=ipaddress.IPv4Address("172.17.0.2"), target_port=80
    )
