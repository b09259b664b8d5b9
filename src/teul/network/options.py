"""Driver options of a bridge network, from Docker's labels to values. Pure. Source: moby libnetwork/drivers/bridge (labels.go)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from teul.errors import InvalidParameter, NotImplementedHere
from teul.network.ports.relays import RELAY, TRANSLATE, PublishedPorts

DOCKER_PREFIX = "com.docker.network."
BRIDGE_NAME = "com.docker.network.bridge.name"
MTU = "com.docker.network.driver.mtu"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
INHIBIT_IPV4 = "com.docker.network.bridge.inhibit_ipv4"
DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
GATEWAY_MODES = {4: "com.docker.network.bridge.gateway_mode_ipv4", 6: "com.docker.network.bridge.gateway_mode_ipv6"}
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"
ENABLE_IPV4, ENABLE_IPV6 = "com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"
# Teul's own: "translate" or "relay", see `ports.relays`.
PUBLISHED_PORTS = "teul.published-ports"
SOURCE_ADDRESSES = {4: "com.docker.network.host_ipv4", 6: "com.docker.network.host_ipv6"}

# strconv.ParseBool
BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)
# linux/if_link.h: a bridge of a smaller MTU cannot carry IPv4.
_SMALLEST_MTU, _LARGEST_MTU = 68, 65535
_LONGEST_NAME = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeOptions:
    """What the options of a bridge network mean. `host_binding` is where ports are published that do not say; "" for everywhere."""

    name: str = ""
    mtu: int = 0
    icc: bool = True
    masquerade: bool = True
    host_binding: str = ""
    inhibit_ipv4: bool = False
    isolated: frozenset[int] = frozenset()
    """IP versions in which the host takes no address (gateway mode `isolated`)."""
    interface_prefix: str = "eth"
    published_ports: PublishedPorts | None = None
    """What is done with published ports, None where the network leaves that to the engine."""


def parse_options(options: Mapping[str, str]) -> BridgeOptions:
    """Raises InvalidParameter for a value that an option cannot have, NotImplementedHere for an option of Docker's that is not here.

    Options that are not Docker's are only kept, for whoever reads them out of the network's record.
    """
    known = {name: options.get(name, "") for name in _KNOWN}
    for name in options:
        if name.startswith(DOCKER_PREFIX) and name not in _KNOWN and name != DEFAULT_BRIDGE:
            raise NotImplementedHere(f"network option {name} is not supported by this engine")
    return BridgeOptions(
        name=parse_bridge_name(known[BRIDGE_NAME]),
        mtu=parse_mtu(known[MTU]),
        icc=_boolean(ICC, known[ICC], default=True),
        masquerade=_boolean(MASQUERADE, known[MASQUERADE], default=True),
        host_binding=_address(HOST_BINDING, known[HOST_BINDING]),
        inhibit_ipv4=_boolean(INHIBIT_IPV4, known[INHIBIT_IPV4], default=False),
        isolated=frozenset(version for version, label in GATEWAY_MODES.items() if _gateway_mode(label, known[label]) == "isolated"),
        interface_prefix=known[INTERFACE_PREFIX] or "eth",
        published_ports=parse_published_ports(options.get(PUBLISHED_PORTS, "")),
    )


def parse_published_ports(value: str) -> PublishedPorts | None:
    """None where nothing is given. Raises InvalidParameter."""
    for known in (TRANSLATE, RELAY):
        if value == known:
            return known
    if value:
        raise _parse_error(PUBLISHED_PORTS, value, f"neither {TRANSLATE} nor {RELAY}")
    return None


def parse_boolean(name: str, value: str) -> bool:
    """An option that is a boolean wherever it stands. Raises InvalidParameter."""
    if value not in BOOLEANS:
        raise InvalidParameter(f'driver-opt "{name}" is not a valid bool')
    return BOOLEANS[value]


def parse_mtu(value: str) -> int:
    """0 where nothing is given. Raises InvalidParameter."""
    if not value:
        return 0
    try:
        mtu = int(value)
    except ValueError:
        raise _parse_error(MTU, value, f'strconv.Atoi: parsing "{value}": invalid syntax') from None
    if mtu < 0 or (mtu and not _SMALLEST_MTU <= mtu <= _LARGEST_MTU):
        raise InvalidParameter(f"invalid MTU number: {mtu}")
    return mtu


_KNOWN = frozenset(
    (
        BRIDGE_NAME,
        MTU,
        ICC,
        MASQUERADE,
        HOST_BINDING,
        INHIBIT_IPV4,
        INTERFACE_PREFIX,
        ENABLE_IPV4,
        ENABLE_IPV6,
        *GATEWAY_MODES.values(),
    )
)


def _parse_error(name: str, value: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f"failed to parse {name} value: {value} ({reason})")


def _boolean(name: str, value: str, *, default: bool) -> bool:
    if not value:
        return default
    if value not in BOOLEANS:
        raise _parse_error(name, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
    return BOOLEANS[value]


def _address(name: str, value: str) -> str:
    return _parsed(name, value, lambda: str(ipaddress.ip_address(value)), "nil ip") if value else ""


def parse_bridge_name(value: str) -> str:
    """A name for a network device, as the kernel takes it (dev_valid_name), and of the signs that nftables takes without quoting.

    "" where nothing is given. Raises InvalidParameter.
    """
    if value and (len(value) > _LONGEST_NAME or not value[0].isalnum() or not all(sign.isalnum() or sign in "_.-" for sign in value)):
        raise InvalidParameter(f"invalid bridge name: {value}")
    if value and not value.isascii():
        raise InvalidParameter(f"invalid bridge name: {value}")
    return value


def _gateway_mode(name: str, value: str) -> str:
    if value in ("", "nat", "isolated"):
        return value
    if value in ("routed", "nat-unprotected"):
        raise NotImplementedHere(f"gateway mode {value} is not supported by this engine: {name}")
    raise _parse_error(name, value, f"unknown gateway mode {value}")


def _parsed(name: str, value: str, parse: Callable[[], str], reason: str) -> str:
    try:
        return parse()
    except ValueError:
        raise _parse_error(name, value, reason) from None
