"""The options of `teul serve` that are about the default bridge, which are dockerd's. Pure.

docker: cmd/dockerd/config_unix.go, daemon/daemon_unix.go, libnetwork/drivers/bridge (ValidateFixedCIDRV6).
"""

from __future__ import annotations

import argparse
import ipaddress
import json
from collections.abc import Callable
from typing import TypeVar

from teul.errors import InvalidParameter
from teul.network.default_bridge import Addressing, DefaultBridge
from teul.network.ipam import Address, Subnet
from teul.network.options import BOOLEANS, parse_bridge_name, parse_mtu

T = TypeVar("T", ipaddress.IPv4Interface | ipaddress.IPv6Interface, Subnet)

_NO_BRIDGE = "none"
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/64")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Have a parser know the options."""
    parser.add_argument("--ip", default="0.0.0.0", metavar="ADDRESS", help="host IP for port mappings from the default bridge network")
    parser.add_argument("-b", "--bridge", default="", metavar="NAME", help='attach containers to a network bridge; "none" for no network')
    parser.add_argument("--bip", default="", metavar="CIDR", help="IPv4 address for the default bridge")
    parser.add_argument("--bip6", default="", metavar="CIDR", help="IPv6 address for the default bridge")
    parser.add_argument("--fixed-cidr", default="", metavar="CIDR", help="IPv4 subnet for the default bridge network")
    parser.add_argument("--fixed-cidr-v6", default="", metavar="CIDR", help="IPv6 subnet for the default bridge network")
    parser.add_argument("--default-gateway", default="", metavar="ADDRESS", help="IPv4 gateway of containers on the default bridge")
    parser.add_argument("--default-gateway-v6", default="", metavar="ADDRESS", help="IPv6 gateway of containers on the default bridge")
    parser.add_argument("--mtu", default="", metavar="NUMBER", help="MTU of the default bridge network")
    for name, default, text in (
        ("ipv6", "false", "IPv6 for the default bridge network"),
        ("icc", "true", "containers on the default bridge reach one another"),
        ("ip-masq", "true", "containers on the default bridge go out under the host's address"),
    ):
        parser.add_argument(f"--{name}", nargs="?", const="true", default=default, metavar="BOOL", help=text)


def parse_default_bridge(options: argparse.Namespace) -> DefaultBridge:
    """What the options mean. Raises InvalidParameter, in dockerd's words."""
    if options.bridge and (options.bip or options.bip6):
        raise InvalidParameter("You specified -b & --bip, mutually exclusive options. Please specify only one")
    ipv4 = Addressing(
        address=_interface("bip", options.bip, 4),
        ip_range=_subnet("fixed-cidr", options.fixed_cidr, 4),
        gateway=_address("default-gateway", options.default_gateway),
    )
    ipv6 = Addressing(
        address=_interface("bip6", options.bip6, 6),
        ip_range=_subnet_v6(options.fixed_cidr_v6),
        gateway=_address("default-gateway-v6", options.default_gateway_v6),
    )
    for addressing in (ipv4, ipv6):
        if (subnet := addressing.subnet(None)) is not None:
            addressing.in_subnet(subnet, None)
    return DefaultBridge(
        name=parse_bridge_name(options.bridge) if options.bridge != _NO_BRIDGE else "",
        is_disabled=options.bridge == _NO_BRIDGE,
        host_binding=_host_binding(options.ip),
        ipv4=ipv4,
        # docker: what is said of IPv6 without asking for it is checked, and means nothing.
        ipv6=ipv6 if _boolean("ipv6", options.ipv6) else None,
        mtu=parse_mtu(options.mtu),
        has_icc=_boolean("icc", options.icc),
        is_masqueraded=_boolean("ip-masq", options.ip_masq),
    )


def _boolean(name: str, value: str) -> bool:
    if value not in BOOLEANS:
        raise _unparsable(name, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
    return BOOLEANS[value]


def _interface(name: str, value: str, version: int) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    return _cidr(name, value, ipaddress.ip_interface, version) if value else None


def _subnet(name: str, value: str, version: int) -> Subnet | None:
    return _cidr(name, value, lambda text: ipaddress.ip_network(text, strict=False), version) if value else None


def _cidr(name: str, value: str, parse: Callable[[str], T], version: int) -> T:
    try:
        if "/" not in value:
            raise ValueError
        found = parse(value)
        if found.version != version:
            raise ValueError
    except ValueError:
        raise InvalidParameter(f"parse {name} failed: invalid CIDR address: {value}") from None
    return found


def _subnet_v6(value: str) -> Subnet | None:
    if not value:
        return None
    try:
        if "/" not in value:
            raise ValueError("no '/'")
        found = ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise _bad_subnet_v6(f"netip.ParsePrefix({json.dumps(value)}): {error}") from None
    if not isinstance(found, ipaddress.IPv6Network):
        raise _bad_subnet_v6(f"'{value}' is not a valid IPv6 subnet")
    if found.overlaps(_LINK_LOCAL):
        raise _bad_subnet_v6(f"'{value}' clashes with the Link-Local prefix 'fe80::/64'")
    return found


def _bad_subnet_v6(reason: str) -> InvalidParameter:
    return InvalidParameter(f"invalid fixed-cidr-v6: {reason}")


def _address(name: str, value: str) -> Address | None:
    try:
        return ipaddress.ip_address(value) if value else None
    except ValueError:
        raise _unparsable(name, value, f"failed to parse IP: {json.dumps(value)}") from None


def _host_binding(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {value}") from None
    return value


def _unparsable(name: str, value: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f'invalid argument {json.dumps(value)} for "--{name}" flag: {reason}')
