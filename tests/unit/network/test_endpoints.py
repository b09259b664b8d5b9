"""Names, MAC addresses and plans of endpoints."""

from __future__ import annotations

import ipaddress

import pytest

from teul.network import endpoints
from teul.network.names import names_for_root

CONTAINER = "0123456789abcdef" * 4


def test_a_link_is_named_after_its_container_and_fits_the_kernels_limit() -> None:
    names = [endpoints.host_interface_name(CONTAINER, generation) for generation in range(36)]
    assert names[0] == "veth01234560"
    assert len(set(names)) == 36
    assert all(len(name) <= 15 and name.startswith(endpoints.host_interface_prefix(CONTAINER)) for name in names)
    assert endpoints.host_interface_name(CONTAINER, 36) == names[0]


def test_the_same_address_always_has_the_same_mac() -> None:
    assert endpoints.mac_for(ipaddress.ip_address("172.17.0.2")) == "02:42:ac:11:00:02"
    assert endpoints.mac_for(ipaddress.ip_address("fd00::a:b")) == "02:42:00:0a:00:0b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("92:D0:C6:0A:29:33", "92:d0:c6:0a:29:33"), ("92-d0-c6-0a-29-33", "92:d0:c6:0a:29:33")],
)
def test_a_mac_address_is_brought_to_one_spelling(text: str, expected: str) -> None:
    assert endpoints.parse_mac(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "92:d0:c6:0a:29", "92:d0:c6:0a:29:33:44", "92:d0:c6:0a:29:3", "zz:d0:c6:0a:29:33", "01:00:5e:00:00:01", "00:00:00:00:00:00"],
)
def test_what_no_card_can_have_is_no_mac_address(text: str) -> None:
    assert endpoints.parse_mac(text) is None


def test_an_endpoint_keeps_its_id_from_start_to_start() -> None:
    first = endpoints.endpoint_id("n" * 64, CONTAINER)
    assert len(first) == 64
    assert first == endpoints.endpoint_id("n" * 64, CONTAINER)
    assert first != endpoints.endpoint_id("m" * 64, CONTAINER)


def test_a_plan_holds_only_addresses() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        endpoints.make_plan(
            host_name="veth1",
            bridge="teul0",
            mac="02:42:ac:11:00:02",
            mtu=1500,
            container_name="eth0",
            addresses=["; drop"],
            gateway=None,
            gateway6=None,
        )


def test_engines_with_different_roots_share_no_name() -> None:
    first, second, default = names_for_root("/a"), names_for_root("/b"), names_for_root("/var/lib/teul")
    assert (default.bridge, default.table, default.chain) == ("teul0", "teul", "TEUL")
    everything = [name for names in (first, second, default) for name in (names.bridge, names.table, names.chain)]
    assert len(set(everything)) == 9
    assert all(len(names.bridge) <= 15 and len(names.chain) <= 28 for names in (first, second, default))
