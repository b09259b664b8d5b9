"""What is asked for with -p and -P, as what is to be taken of the host."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from teul.model.container import ContainerEndpoint
from teul.model.host_config import PortBinding
from teul.network.ports import plan
from teul.network.ports.plan import PortRequest, group_ports, requested_ports

ANY = [plan.ANY[4], plan.ANY[6]]
LOOPBACK = ipaddress.IPv4Address("127.0.0.1")


def bind(host_port: str = "", host_ip: str = "") -> PortBinding:
    return PortBinding(host_ip=host_ip, host_port=host_port)


def requests(bindings: dict[str, Any], exposed: tuple[str, ...] = (), *, publish_all: bool = False) -> list[PortRequest]:
    return requested_ports(bindings, exposed, publish_all=publish_all)


def groups(bindings: dict[str, Any], versions: tuple[int, ...] = (4, 6), defaults: Any = None) -> list[tuple[Any, ...]]:
    found = group_ports(requests(bindings), versions, ANY if defaults is None else defaults)
    return [(group.container_port, group.protocol, group.first, group.last, *map(str, group.addresses)) for group in found]


@pytest.mark.parametrize("text", ["", "/tcp", "0", "65536", "x", "80/", "80/icmp", "-1", "8 0", "80-81", "٨٠"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(ValueError, match="not a port"):
        plan.parse_port(text)


def test_ports_and_ranges() -> None:
    assert plan.parse_port("80") == plan.parse_port("80/TCP") == (80, "tcp")
    assert plan.parse_port("65535/sctp") == (65535, "sctp")
    assert plan.parse_host_ports("") == plan.parse_host_ports("0") == (0, 0)
    assert plan.parse_host_ports("80") == (80, 80)
    assert plan.parse_host_ports("80-90") == (80, 90)
    for text in ("x", "9-8", "80-", "-80", "65536", "0-5", "1-65536"):
        with pytest.raises(ValueError, match="not a range"):
            plan.parse_host_ports(text)


def test_an_ipv4_address_in_disguise_is_one() -> None:
    assert plan.parse_host_address("::ffff:127.0.0.1") == LOOPBACK
    assert plan.parse_host_address("") is None


def test_null_asks_for_nothing_and_an_empty_list_for_any_port() -> None:
    assert requests({"80/tcp": None}) == []
    assert requests({"80/tcp": []}) == requests({"80": [bind()]}) == [PortRequest(container_port=80, protocol="tcp")]


def test_all_exposed_ports_that_nothing_is_said_about() -> None:
    exposed = ("80/tcp", "53/udp", "no port")
    found = requests({"80/tcp": [bind("8080")], "9/tcp": None}, exposed, publish_all=True)
    assert [(each.container_port, each.protocol, each.first) for each in found] == [(80, "tcp", 8080), (9, "tcp", 0), (53, "udp", 0)]
    assert requests({}, exposed) == []


def test_where_nothing_is_said_both_versions_get_the_same_port() -> None:
    assert groups({"80/tcp": [bind("8080")]}) == [(80, "tcp", 8080, 8080, "0.0.0.0", "::")]
    assert groups({"80/tcp": [bind()]}, (4,)) == [(80, "tcp", 0, 0, "0.0.0.0")]
    assert groups({"80/tcp": [bind("8080")]}, defaults=[LOOPBACK]) == [(80, "tcp", 8080, 8080, "127.0.0.1")]
    assert groups({"80/tcp": [bind("8080", "0.0.0.0")]}) == [(80, "tcp", 8080, 8080, "0.0.0.0")]
    assert groups({"80/tcp": [bind("8080", "::1")]}, (4,)) == []


def test_addresses_that_ask_for_the_same_are_one_group_and_exact_ports_come_first() -> None:
    bindings = {
        "81/tcp": [bind("8000-8010")],
        "80/udp": [bind("8001")],
        "80/tcp": [bind("8001", "127.0.0.2"), bind("8001", "127.0.0.1"), bind("9001", "127.0.0.1"), bind("8001", "127.0.0.1")],
    }
    assert groups(bindings) == [
        (80, "tcp", 8001, 8001, "127.0.0.1", "127.0.0.2"),
        (80, "tcp", 9001, 9001, "127.0.0.1"),
        (80, "udp", 8001, 8001, "0.0.0.0", "::"),
        (81, "tcp", 8000, 8010, "0.0.0.0", "::"),
    ]


def test_where_a_network_publishes() -> None:
    assert plan.default_addresses("", has_ipv6=True) == plan.default_addresses("0.0.0.0", has_ipv6=True) == ANY
    assert plan.default_addresses("0.0.0.0", has_ipv6=False) == ANY[:1]
    assert plan.default_addresses("127.0.0.1", has_ipv6=True) == [LOOPBACK]
    assert plan.default_addresses("::", has_ipv6=True) == ANY[1:]


def test_the_way_out_by_ipv4_answers_for_ipv6_where_there_is_no_other() -> None:
    one, two = (ContainerEndpoint(network_name=name, network_id=name, endpoint_id=name) for name in ("one", "two"))
    assert plan.endpoint_versions(one, {4: one}) == {4, 6}
    assert plan.endpoint_versions(one, {4: one, 6: two}) == {4}
    assert plan.endpoint_versions(two, {4: one, 6: two}) == {6}
    assert plan.endpoint_versions(two, {4: one}) == plan.endpoint_versions(one, {}) == set()
