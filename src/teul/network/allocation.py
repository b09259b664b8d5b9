"""What a container gets of a network: the endpoint that the container's record keeps, and the link to be made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from teul.linux.netlink.links import Plan
from teul.model.container import ContainerEndpoint
from teul.model.network import Network
from teul.network import endpoints
from teul.network.bridge import Bridge, Segment
from teul.network.ipam import Address
from teul.network.wire import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a running container holds of a network: the endpoint in its record, and the link that `teul.linux.netlink.links` makes."""

    endpoint: ContainerEndpoint
    plan: Plan


def describe(
    network: Network,
    side: Bridge | Wire,
    container_id: str,
    addresses: Sequence[Address],
    *,
    mac: str,
    host_interface: str,
    container_interface: str,
    link_local: Sequence[str] = (),
) -> Allocation:
    """The allocation of `addresses`, one of each IP version at most, on `network`, which has this `side` on the host.

    On a wire there is no end of the link on the host, and `host_interface` only a name for the time that the link's own may not be had. Its
    plan has no default route: which of a container's networks is the way out, `with_gateways` says. `link_local` are addresses that the
    client chose, with prefix lengths.
    """
    segments = {address.version: (address, segment_of(side, address)) for address in addresses}
    ipv4, segment4 = segments.get(4, (None, None))
    ipv6, segment6 = segments.get(6, (None, None))
    endpoint = ContainerEndpoint(
        network_name=network.name,
        network_id=network.id,
        endpoint_id=endpoints.endpoint_id(network.id, container_id),
        ipv4=str(ipv4 or ""),
        ipv4_prefix=segment4.subnet.prefixlen if segment4 else 0,
        gateway=str((segment4 and segment4.gateway) or ""),
        mac=mac,
        ipv6=str(ipv6 or ""),
        ipv6_prefix=segment6.subnet.prefixlen if segment6 else 0,
        gateway6=str((segment6 and segment6.gateway) or ""),
        host_interface=host_interface if isinstance(side, Bridge) else "",
        interface=container_interface,
        is_routed=isinstance(side, Wire) and side.is_routed and not side.is_internal,
    )
    plan = endpoints.make_plan(
        host_name=host_interface,
        bridge=side.name if isinstance(side, Bridge) else "",
        mac=mac,
        mtu=side.mtu,
        container_name=container_interface,
        addresses=[*(f"{address}/{segment.subnet.prefixlen}" for address, segment in segments.values()), *link_local],
        gateway=None,
        gateway6=None,
        isolated=isinstance(side, Bridge) and not side.has_icc,
    )
    if isinstance(side, Wire):
        plan.update({"kind": side.kind, "parent": side.parent, "mode": side.mode, "flag": side.flag})
    return Allocation(endpoint=endpoint, plan=plan)


def with_sysctls(allocation: Allocation, sysctls: Sequence[tuple[Sequence[str], str]]) -> Allocation:
    """The allocation whose link gets these settings: names as `parse_endpoint_options` takes them apart, and values."""
    if not sysctls:
        return allocation
    plan = allocation.plan.copy()
    plan["sysctls"] = [
        ("/".join((*parts[:3], allocation.endpoint.interface, parts[4])), value)  # of any link, the fourth part is its name
        for parts, value in sysctls
    ]
    return Allocation(endpoint=allocation.endpoint, plan=plan)


def segment_of(side: Bridge | Wire, address: Address) -> Segment:
    """The network's subnet that an address is of. Raises StopIteration if it is of none."""
    return next(segment for segment in side.segments if segment.subnet.version == address.version and address in segment.subnet)


def gateways(endpoints_of: Sequence[ContainerEndpoint], priorities: dict[str, int]) -> dict[int, ContainerEndpoint]:
    """By IP version, the endpoint by which a container with these endpoints reaches the rest of the world.

    docker: of those that lead out the one of the highest priority (by the network's name), then the first by the network's name.
    """
    ordered = sorted(endpoints_of, key=lambda endpoint: (-priorities.get(endpoint.network_name, 0), endpoint.network_name))
    found: dict[int, ContainerEndpoint] = {}
    for version in (4, 6):
        chosen = next((endpoint for endpoint in ordered if endpoint.leads_out(version)), None)
        if chosen is not None:
            found[version] = chosen
    return found


def with_gateways(allocations: Sequence[Allocation], priorities: dict[str, int], *, publishing: Collection[str] = ()) -> list[Plan]:
    """The plans of a container's links, the default routes among them. `priorities` by the network's name.

    `publishing` are the names of the networks by which its ports are published.
    """
    chosen = gateways([allocation.endpoint for allocation in allocations], priorities)
    plans: list[Plan] = []
    for allocation in allocations:
        plan = allocation.plan.copy()
        plan["gateway"] = allocation.endpoint.gateway if chosen.get(4) == allocation.endpoint else None
        plan["gateway6"] = allocation.endpoint.gateway6 if chosen.get(6) == allocation.endpoint else None
        plan["hairpin"] = allocation.endpoint.network_name in publishing
        routed = [version for version in (4, 6) if allocation.endpoint.is_routed and chosen.get(version) == allocation.endpoint]
        if routed:
            plan["device_routes"] = routed
        plans.append(plan)
    return plans
