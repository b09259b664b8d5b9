"""Which ways a published port has to its container."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter
from teul.model.container import ContainerEndpoint, PublishedPort
from teul.network.options import PUBLISHED_PORTS, parse_options
from teul.network.ports.relays import RELAY, TRANSLATE, PublishedPorts, ways_of


def ways(*places: str, mode: PublishedPorts = TRANSLATE, ipv6: str = "fd00::2", protocol: str = "tcp") -> tuple[list[str], list[str]]:
    ports = tuple(PublishedPort(container_port=80, protocol=protocol, host_address=each, host_port=8080) for each in places)
    endpoint = ContainerEndpoint(network_name="n", network_id="n", endpoint_id="e", ipv4="172.17.0.2", ipv6=ipv6, ports=ports)
    found = ways_of(endpoint, mode)
    texts = [[f"{each.address} {each.port} {each.target} {each.target_port}" for each in way] for way in (found.translated, found.relayed)]
    return texts[0], texts[1]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_the_kernel_cannot_translate_is_relayed(protocol: str) -> None:
    assert ways("0.0.0.0", "127.0.0.1", "192.0.2.1", protocol=protocol)[1] == []
    assert ways("::", ipv6="", protocol=protocol) == ([], [":: 8080 172.17.0.2 80"])
    assert ways("2001:db8::1", ipv6="", protocol=protocol) == ([], ["2001:db8::1 8080 172.17.0.2 80"])


def test_all_addresses_are_translated_but_one() -> None:
    assert ways("::") == ([":: 8080 fd00::2 80"], [":: 8080 fd00::2 80"])
    assert ways("2001:db8::1") == (["2001:db8::1 8080 fd00::2 80"], [])
    assert ways("::1") == ([], ["::1 8080 fd00::2 80"])


def test_all_are_relayed_where_that_is_wanted() -> None:
    assert ways("0.0.0.0", "::", mode=RELAY) == ([], ["0.0.0.0 8080 172.17.0.2 80", ":: 8080 fd00::2 80"])


def test_sctp_is_not_relayed() -> None:
    assert ways("0.0.0.0", "::", protocol="sctp", ipv6="") == (["0.0.0.0 8080 172.17.0.2 80"], [])


def test_a_network_says_what_is_done_with_its_ports_or_leaves_it_to_the_engine() -> None:
    assert parse_options({}).published_ports is None
    assert parse_options({PUBLISHED_PORTS: "relay"}).published_ports == RELAY
    assert parse_options({PUBLISHED_PORTS: "translate"}).published_ports == TRANSLATE
    with pytest.raises(InvalidParameter) as refused:
        parse_options({PUBLISHED_PORTS: "proxy"})
    assert refused.value.message == "failed to parse teul.published-ports value: proxy (neither translate nor relay)"
