"""What a container asks to publish, worked out as data: which ports, on which addresses of the host. Pure.

Source: moby daemon/network.go (buildPortsRelatedCreateEndpointOptions), libnetwork/drivers/bridge/port_mapping_linux.go.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from teul.model.container import ContainerEndpoint
from teul.model.host_config import PortBinding
from teul.network.ipam import Address

PROTOCOLS = ("tcp", "udp", "sctp")
ANY: dict[int, Address] = {4: ipaddress.IPv4Address("0.0.0.0"), 6: ipaddress.IPv6Address("::")}


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRequest:
    """One port of a container's that is to be published: on `host_address`, or where the network says if that is None.

    `first` to `last` are the ports of the host out of which one is taken; both are 0 where any that is free will do.
    """

    container_port: int
    protocol: str
    host_address: Address | None = None
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PortGroup:
    """One port of a container's on several addresses of the host, on all of which it is to have the same number."""

    container_port: int
    protocol: str
    first: int
    last: int
    addresses: tuple[Address, ...]


def parse_port(text: str) -> tuple[int, str]:
    """(number, protocol) of `80/tcp`; without a protocol it is TCP. Raises ValueError."""
    number, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS or not (number.isascii() and number.isdecimal() and len(number) <= 5 and 0 < int(number) <= 65535):
        raise ValueError(f"not a port: {text!r}")
    return int(number), protocol


def parse_host_ports(text: str) -> tuple[int, int]:
    """The first and the last of a range, which may be of one; (0, 0) of "" and of "0". Raises ValueError."""
    first, dash, last = text.partition("-")
    parts = [first or "0", last if dash else first or "0"]
    if not all(part.isascii() and part.isdecimal() and len(part) <= 5 for part in parts):
        raise ValueError(f"not a range of ports: {text!r}")
    begin, end = int(parts[0]), int(parts[1])
    if not begin <= end <= 65535 or (end and not begin):
        raise ValueError(f"not a range of ports: {text!r}")
    return begin, end


def parse_host_address(text: str) -> Address | None:
    """The address, None of "". An IPv4 address in the clothes of an IPv6 address is one of IPv4. Raises ValueError."""
    if not text:
        return None
    address = ipaddress.ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def requested_ports(
    bindings: Mapping[str, Sequence[PortBinding] | None] | None, exposed: Collection[str], *, publish_all: bool
) -> list[PortRequest]:
    """What is asked for with PortBindings, and of the exposed ports without any if all are to be published.

    An image may expose what is no port; that cannot be published. Raises ValueError for a binding that is none.
    """
    wanted = {parse_port(port): places for port, places in (bindings or {}).items()}
    if publish_all:
        wanted |= {port: None for port in _ports(exposed) if port not in wanted}
    requests: list[PortRequest] = []
    for (number, protocol), places in wanted.items():
        # docker: an empty list asks for a port of the host's choice; null asks for nothing.
        anywhere = [PortBinding()] if places is not None or publish_all else []
        for place in places or anywhere:
            first, last = parse_host_ports(place.host_port)
            address = parse_host_address(place.host_ip)
            requests.append(PortRequest(container_port=number, protocol=protocol, host_address=address, first=first, last=last))
    return requests


def _ports(exposed: Collection[str]) -> Iterator[tuple[int, str]]:
    for port in exposed:
        with contextlib.suppress(ValueError):
            yield parse_port(port)


def default_addresses(host_binding: str, *, has_ipv6: bool) -> list[Address]:
    """Where a network publishes ports that do not say, if this is its `host_binding`. Raises ValueError.

    docker: 0.0.0.0 means all of the host's addresses, IPv6 included.
    """
    address = parse_host_address(host_binding) or ANY[4]
    return [ANY[4], ANY[6]] if address == ANY[4] and has_ipv6 else [address]


def group_ports(requests: Sequence[PortRequest], versions: Collection[int], defaults: Sequence[Address]) -> list[PortGroup]:
    """What to publish by an endpoint that answers for these `versions` of the host's addresses, in the order in which ports are taken.

    `defaults` is where ports are published that do not say. docker: exact ports come before ranges that they may
    lie in, then the lowest ports of the container.
    """
    placed = {
        (request.first == 0 or request.first != request.last, request.container_port, PROTOCOLS.index(request.protocol), *span, address)
        for request in requests
        for span in [(request.first, request.last)]
        for address in ([request.host_address] if request.host_address is not None else defaults)
        if address.version in versions
    }
    ordered = sorted(placed, key=lambda each: (*each[:5], each[5].version, int(each[5])))
    return [
        PortGroup(container_port=port, protocol=PROTOCOLS[protocol], first=first, last=last, addresses=tuple(each[5] for each in members))
        for (_is_range, port, protocol, first, last), members in itertools.groupby(ordered, key=lambda each: each[:5])
    ]


def endpoint_versions(endpoint: ContainerEndpoint, gateways: Mapping[int, ContainerEndpoint]) -> set[int]:
    """The IP versions of the host's addresses that lead to a container by this endpoint, where `gateways` are its ways out.

    docker: without a way out by IPv6, the endpoint of IPv4 answers for the host's IPv6 addresses, too.
    """
    return {version for version in (4, 6) if gateways.get(version, gateways.get(4)) == endpoint}
