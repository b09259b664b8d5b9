"""Published ports in the engine's nftables table, rendered as data: one element for each port and address of the host.

Where the source of a connection is ::1 nothing can be led anywhere else (the kernel keeps it on the host), nor is an IPv6 address of the
host translated to a container that has IPv4 only: such ports have no element, and are relayed (see `ports.relays`). What is relayed is
received by the host, and so passes none of the rules about what is forwarded; an element keeps it from internal networks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from teul.model.container import ContainerEndpoint, PublishedPort
from teul.network.firewall.table import check_table_name
from teul.network.ipam import Address
from teul.network.ports.plan import PROTOCOLS

_MAPS = ("ports4", "ports6", "bound4", "bound6", "relayed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What comes for `port` of `address`, or of all of the host's addresses of its version if that is unspecified, goes to a container."""

    address: Address
    protocol: str
    port: int
    target: Address
    target_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed:
    """A port of the host, on whichever of its addresses, that something listens at which passes it on to a container."""

    protocol: str
    port: int


Published = Forwarding | Relayed


def forwardings(endpoint: ContainerEndpoint) -> list[Forwarding]:
    """What the kernel does for the ports that are published by an endpoint."""
    found: list[Forwarding] = []
    for port in endpoint.ports:
        address = ipaddress.ip_address(port.host_address)
        target = translated_to(endpoint, port)
        if target is not None:
            found.append(
                Forwarding(address=address, protocol=port.protocol, port=port.host_port, target=target, target_port=port.container_port)
            )
    return found


def translated_to(endpoint: ContainerEndpoint, port: PublishedPort) -> Address | None:
    """The container's address that the kernel leads a port to, None where it cannot."""
    address = ipaddress.ip_address(port.host_address)
    if isinstance(address, ipaddress.IPv6Address) and address.is_loopback:
        return None
    target = endpoint.ipv4 if address.version == 4 else endpoint.ipv6
    return ipaddress.ip_address(target) if target else None


def render_published(table: str, added: Iterable[Published]) -> str:
    """The script that adds ports to the table."""
    return _script(table, "add", added)


def render_withdrawn(table: str, removed: Iterable[Published]) -> str:
    """The script that takes ports out of the table; it fails if one is not there."""
    return _script(table, "delete", removed)


def render_exactly(table: str, wanted: Sequence[Published]) -> str:
    """The script after which these ports are in the table and no others: in one transaction, so what stays is never missed."""
    check_table_name(table)
    return "".join(f"flush map inet {table} {name}\n" for name in _MAPS) + _script(table, "add", wanted)


def _script(table: str, verb: str, ports: Iterable[Published]) -> str:
    check_table_name(table)
    elements: dict[str, list[str]] = {}
    for port in ports:
        if port.protocol not in PROTOCOLS:
            raise ValueError(f"not a protocol for nftables: {port.protocol!r}")
        key = f"{port.protocol} . {int(port.port)}"
        if isinstance(port, Relayed):
            elements.setdefault("relayed", []).append(f"{key} : drop")
            continue
        version = port.address.version
        name = f"ports{version}"
        if not port.address.is_unspecified:
            key, name = f"{port.address} . {key}", f"bound{version}"
        elements.setdefault(name, []).append(f"{key} : {port.target} . {int(port.target_port)}")
    return "".join(f"{verb} element inet {table} {name} {{ {', '.join(listed)} }}\n" for name, listed in elements.items())
