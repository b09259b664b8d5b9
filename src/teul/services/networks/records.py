"""Records of networks and attachments, worked out from a bridge, a container or a name. Pure but for a new record's id and time."""

from __future__ import annotations

import ipaddress
import secrets
import time

import msgspec

from teul.model.container import Container
from teul.model.network import BRIDGE, HOST, NONE, OPTION_BRIDGE_NAME, OPTION_MTU, AddressRange, Attachment, Ipam, Network
from teul.network.bridge import Bridge, gateway_of
from teul.network.ipam import Subnet


def predefined(name: str) -> Network:
    """A new record of one of the networks that every engine has."""
    network_id, now_ns = secrets.token_hex(32), time.time_ns()
    if name != BRIDGE:
        return Network(id=network_id, name=name, created_at_ns=now_ns, driver={HOST: "host", NONE: "null"}[name])
    options = {
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
    }
    return Network(id=network_id, name=name, created_at_ns=now_ns, driver="bridge", ipam=Ipam(ranges=[]), options=options)


def with_bridge(network: Network, bridge: Bridge) -> Network:
    """The record of a network whose bridge stands."""
    options = {**network.options, OPTION_BRIDGE_NAME: bridge.name, OPTION_MTU: str(bridge.mtu)}
    ranges = [AddressRange(subnet=str(bridge.subnet), gateway=str(gateway_of(bridge.subnet)))]
    return msgspec.structs.replace(network, options=options, ipam=Ipam(ranges=ranges))


def subnet_of(network: Network) -> Subnet | None:
    """The subnet that a network had last, if it ever had one."""
    return ipaddress.ip_network(network.ipam.ranges[0].subnet) if network.ipam.ranges else None


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
