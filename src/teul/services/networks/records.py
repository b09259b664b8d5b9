"""Records of networks and attachments, worked out from one another. Pure but for a new record's id and time."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Sequence

import msgspec

from teul.model.container import Container
from teul.model.network import BRIDGE, HOST, NONE, AddressRange, Attachment, Ipam, Network
from teul.network.bridge import Bridge, Segment
from teul.network.default_bridge import GATEWAY_LABELS
from teul.network.ipam import AddressPool, Subnet
from teul.network.options import BRIDGE_NAME, DEFAULT_BRIDGE, HOST_BINDING, ICC, MASQUERADE, MTU, parse_options
from teul.network.wire import Kind, Wire, dummy_name
from teul.network.wire_options import parse_wire_options

EVERYWHERE = "0.0.0.0"
"""The host binding of a network that publishes ports on all of the host's addresses."""


def predefined(name: str, *, bridge_name: str) -> Network:
    """A new record of one of the networks that every engine has; `bridge_name` is the device of the default bridge."""
    network_id, now_ns = secrets.token_hex(32), time.time_ns()
    if name != BRIDGE:
        return Network(id=network_id, name=name, created_at_ns=now_ns, driver={HOST: "host", NONE: "null"}[name])
    options = {DEFAULT_BRIDGE: "true", ICC: "true", MASQUERADE: "true", HOST_BINDING: EVERYWHERE, BRIDGE_NAME: bridge_name}
    return Network(id=network_id, name=name, created_at_ns=now_ns, driver="bridge", ipam=Ipam(ranges=[]), options=options)


def with_ranges(network: Network, ranges: Sequence[AddressRange]) -> Network:
    """The record of the default bridge when its subnets have been chosen."""
    has_ipv6 = any(":" in each.subnet for each in ranges)
    return msgspec.structs.replace(network, enable_ipv6=has_ipv6, ipam=msgspec.structs.replace(network.ipam, ranges=[*ranges]))


def with_mtu(network: Network, bridge: Bridge) -> Network:
    """docker: the record of the default bridge tells its MTU."""
    return msgspec.structs.replace(network, options={**network.options, MTU: str(bridge.mtu)})


def bridge_of(network: Network) -> Bridge:
    """The bridge of a network, as it is to be."""
    options = parse_options(network.options)
    segments = []
    for entry in network.ipam.ranges or ():
        subnet = ipaddress.ip_network(entry.subnet)
        gateway = ipaddress.ip_address(entry.gateway) if entry.gateway else None
        takes_address = gateway is not None and not (options.inhibit_ipv4 and subnet.version == 4)
        # docker: an auxiliary address of this name is the containers' way out.
        way_out = entry.auxiliary.get(GATEWAY_LABELS[subnet.version])
        segments.append(
            Segment(
                subnet=subnet,
                gateway=None if network.internal else ipaddress.ip_address(way_out) if way_out else gateway,
                host_address=gateway if takes_address and subnet.version not in options.isolated else None,
            )
        )
    return Bridge(
        name=options.name or default_bridge_name(network.id),
        segments=tuple(segments),
        mtu=0 if network.is_predefined else options.mtu,
        is_internal=network.internal,
        has_icc=options.icc,
        is_masqueraded=options.masquerade,
        interface_prefix=options.interface_prefix,
    )


def wire_of(network: Network) -> Wire:
    """The wire of a network whose driver is macvlan or ipvlan."""
    kind: Kind = "macvlan" if network.driver == "macvlan" else "ipvlan"
    options = parse_wire_options(kind, network.options)
    is_routed = options.mode in ("l3", "l3s")
    segments = [
        Segment(
            subnet=ipaddress.ip_network(entry.subnet),
            # docker: where packets find their way by addresses alone, a gateway that was given is nobody.
            gateway=ipaddress.ip_address(entry.gateway) if entry.gateway and not network.is_closed and not is_routed else None,
            host_address=None,
        )
        for entry in network.ipam.ranges or ()
    ]
    return Wire(
        kind=kind,
        parent=options.parent or dummy_name(kind, network.id),
        mode=options.mode,
        flag=options.flag,
        mtu=options.mtu,
        segments=tuple(segments),
        is_dummy=not options.parent,
        is_internal=network.is_closed,
    )


def default_bridge_name(network_id: str) -> str:
    """The device of a network that did not ask for a name: it has to be told from Docker's `br-` on a host that has both."""
    return f"tl-{network_id[:12]}"


def pools_of(network: Network) -> list[AddressPool]:
    """The addresses that a network hands out, none of them held yet, in the order of its subnets."""
    pools: list[AddressPool] = []
    for entry in network.ipam.ranges or ():
        reserved = [ipaddress.ip_address(address) for address in (entry.gateway, *entry.auxiliary.values()) if address]
        ip_range = ipaddress.ip_network(entry.ip_range) if entry.ip_range else None
        pools.append(AddressPool(ipaddress.ip_network(entry.subnet), reserved=reserved, ip_range=ip_range))
    return pools


def subnets_of(network: Network) -> list[Subnet]:
    """The subnets that a network has on record."""
    return [ipaddress.ip_network(entry.subnet) for entry in network.ipam.ranges or ()]


def attachment_of(container: Container, network: Network) -> Attachment:
    """What `network inspect` tells of a container that is on `network`."""
    endpoint = container.endpoints[network.name]
    return Attachment(
        container_id=container.id,
        container_name=container.name,
        endpoint_id=endpoint.endpoint_id,
        mac=endpoint.mac,
        ipv4=f"{endpoint.ipv4}/{endpoint.ipv4_prefix}" if endpoint.ipv4 else "",
        ipv6=f"{endpoint.ipv6}/{endpoint.ipv6_prefix}" if endpoint.ipv6 else "",
    )


def names_on(container: Container, network: str) -> list[str]:
    """A container's names on a network of the user's, the first of which stands for it. docker: buildEndpointDNSNames."""
    settings = container.wanted_networks.get(network)
    names = [container.name, *((settings.aliases if settings is not None else None) or ()), container.id[:12], container.config.hostname]
    return list(dict.fromkeys(name for name in names if name))
