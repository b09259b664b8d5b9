"""What a container gets of a network: the endpoint that the container's record keeps, and the link to be made."""

from __future__ import annotations

from dataclasses import dataclass

from teul.linux.netlink.links import Plan
from teul.model.container import ContainerEndpoint
from teul.model.network import Network
from teul.network import endpoints
from teul.network.bridge import Bridge
from teul.network.ipam import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a running container holds of a network: the endpoint in its record, and the link that `teul.linux.netlink.links` makes."""

    endpoint: ContainerEndpoint
    plan: Plan


def describe(
    network: Network, bridge: Bridge, container_id: str, address: Address, *, mac: str, host_interface: str, position: int
) -> Allocation:
    """The allocation of `address` on `network`, whose bridge is `bridge`. `position`: which of the container's interfaces it is."""
    length, gateway = bridge.subnet.prefixlen, str(bridge.gateway)
    ipv4, ipv6 = (str(address), "") if address.version == 4 else ("", str(address))
    endpoint = ContainerEndpoint(
        network_name=network.name,
        network_id=network.id,
        endpoint_id=endpoints.endpoint_id(network.id, container_id),
        ipv4=ipv4,
        ipv4_prefix=length if ipv4 else 0,
        gateway=gateway if ipv4 else "",
        mac=mac,
        ipv6=ipv6,
        ipv6_prefix=length if ipv6 else 0,
        gateway6=gateway if ipv6 else "",
        host_interface=host_interface,
    )
    plan = endpoints.make_plan(
        host_name=host_interface,
        bridge=bridge.name,
        mac=mac,
        mtu=bridge.mtu,
        container_name=f"eth{position}",
        addresses=[f"{address}/{length}"],
        gateway=endpoint.gateway or None,
        gateway6=endpoint.gateway6 or None,
    )
    return Allocation(endpoint=endpoint, plan=plan)
