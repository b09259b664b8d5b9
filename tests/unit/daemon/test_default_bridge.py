"""The options of the default bridge, as dockerd has them."""

from __future__ import annotations

import ipaddress

import pytest

from teul.daemon.config import parse_arguments
from teul.errors import InvalidParameter
from teul.network.default_bridge import AS_USUAL, Addressing, DefaultBridge

ENVIRONMENT = {"HOME": "/home/x"}


def parse(*arguments: str) -> DefaultBridge:
    return parse_arguments([*arguments], ENVIRONMENT).default_bridge


def test_without_options_it_is_as_usual() -> None:
    assert parse() == AS_USUAL
    assert AS_USUAL.agrees_with([]) is False
    assert not AS_USUAL.has_subnets


def test_addresses_are_taken_as_they_are_given() -> None:
    bridge = parse(
        *("--bip", "10.9.0.5/16", "--fixed-cidr", "10.9.8.7/24", "--default-gateway", "10.9.0.9", "--ip", "127.0.0.1"),
        *("--ipv6", "--bip6", "fd00::5/64", "--fixed-cidr-v6", "fd00::1:0/112", "--default-gateway-v6", "fd00::9"),
    )
    assert bridge == DefaultBridge(
        host_binding="127.0.0.1",
        ipv4=Addressing(
            address=ipaddress.ip_interface("10.9.0.5/16"),
            ip_range=ipaddress.ip_network("10.9.8.0/24"),
            gateway=ipaddress.ip_address("10.9.0.9"),
        ),
        ipv6=Addressing(
            address=ipaddress.ip_interface("fd00::5/64"),
            ip_range=ipaddress.ip_network("fd00::1:0/112"),
            gateway=ipaddress.ip_address("fd00::9"),
        ),
    )
    assert bridge.has_subnets


def test_switches_are_go_s() -> None:
    bridge = parse("--ipv6=1", "--icc=false", "--ip-masq=F", "--mtu", "1300")
    assert bridge == DefaultBridge(ipv6=Addressing(), has_icc=False, is_masqueraded=False, mtu=1300)
    assert parse("--ipv6", "--icc").ipv6 == Addressing()
    assert parse("--fixed-cidr-v6", "fd00::/64").ipv6 is None, "docker: without --ipv6 it means nothing"


def test_a_bridge_of_the_administrators_or_none() -> None:
    assert parse("--bridge", "br7", "--mtu", "1300") == DefaultBridge(name="br7", mtu=1300)
    assert parse("-b", "br7").name == "br7"
    assert parse("--bridge", "none") == DefaultBridge(is_disabled=True)
    own = [ipaddress.ip_interface(text) for text in ("10.9.0.5/24", "10.8.0.5/24", "fd00::5/64")]
    given = parse("--bridge", "br7", "--fixed-cidr", "10.9.0.128/25")
    assert given.with_addresses(own).ipv4 == Addressing(address=own[0], ip_range=ipaddress.ip_network("10.9.0.128/25"))
    assert given.with_addresses(own).ipv6 is None
    assert parse("--bridge", "br7", "--ipv6").with_addresses(own).ipv6 == Addressing(address=own[2])
    assert given.with_addresses([]) == given


_PARSE_BOOL = 'invalid argument "x" for "--{0}" flag: strconv.ParseBool: parsing "x": invalid syntax'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bip", "x"), "parse bip failed: invalid CIDR address: x"),
        (("--bip", "10.0.0.1"), "parse bip failed: invalid CIDR address: 10.0.0.1"),
        (("--bip", "fd00::1/64"), "parse bip failed: invalid CIDR address: fd00::1/64"),
        (("--bip6", "10.0.0.1/24"), "parse bip6 failed: invalid CIDR address: 10.0.0.1/24"),
        (("--fixed-cidr", "10.0.0.0/33"), "parse fixed-cidr failed: invalid CIDR address: 10.0.0.0/33"),
        (("--fixed-cidr-v6", "x"), "invalid fixed-cidr-v6: netip.ParsePrefix(\"x\"): no '/'"),
        (("--fixed-cidr-v6", "10.0.0.0/8"), "invalid fixed-cidr-v6: '10.0.0.0/8' is not a valid IPv6 subnet"),
        (("--fixed-cidr-v6", "fe80::/10"), "invalid fixed-cidr-v6: 'fe80::/10' clashes with the Link-Local prefix 'fe80::/64'"),
        (("--default-gateway", "x"), 'invalid argument "x" for "--default-gateway" flag: failed to parse IP: "x"'),
        (("--ip", "x"), "invalid IP address: x"),
        (("--mtu", "-1"), "invalid MTU number: -1"),
        *(((f"--{name}=x",), _PARSE_BOOL.format(name)) for name in ("ipv6", "icc", "ip-masq")),
        (("-b", "br7", "--bip", "10.9.0.1/24"), "You specified -b & --bip, mutually exclusive options. Please specify only one"),
        (("-b", "none", "--bip6", "fd00::1/64"), "You specified -b & --bip, mutually exclusive options. Please specify only one"),
        (("-b", "a/b"), "invalid bridge name: a/b"),
        (("--bip", "10.9.0.1/24", "--fixed-cidr", "10.9.0.0/16"), "invalid address subpool"),
        (("--bip", "10.9.0.1/24", "--fixed-cidr", "10.8.0.0/28"), "invalid address subpool"),
        (("--bip", "10.9.0.1/24", "--default-gateway", "10.8.0.1"), "default gateway ip must be part of the network"),
        (("--ipv6", "--fixed-cidr-v6", "fd00::/64", "--default-gateway-v6", "10.8.0.1"), "default gateway ip must be part of the network"),
    ],
)
def test_what_cannot_be_meant(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse(*options)
    assert caught.value.message == message
