"""How a packet of a container's gets out, to the rest of the world. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator

from teul.model.container import ContainerEndpoint
from teul.model.explanation import Path
from teul.network.paths.facts import Facts, NetworkFact
from teul.network.paths.journey import Journey
from teul.network.paths.packet import Other, Packet


def outgoing_paths(facts: Facts) -> Iterator[Path]:
    """The way out by each IP version that the container has."""
    for version in (4, 6):
        endpoint = facts.subject.endpoint_out(version)
        if endpoint is not None:
            yield _leave(facts, endpoint, version)
        elif any(each.ipv4 if version == 4 else each.ipv6 for each in facts.subject.endpoints):
            yield _stay(facts, version)


def _stay(facts: Facts, version: int) -> Path:
    own = next(address for each in facts.subject.endpoints for address in ([each.ipv4] if version == 4 else [each.ipv6]) if address)
    journey = _begin(facts, own, version)
    internal = [network.name for network in facts.subject.networks.values() if network.internal]
    reason = f"network {', '.join(internal)} is internal: nothing leaves it" if internal else "none of its networks has a gateway"
    remedy = f"teul network connect bridge {facts.subject.name}"
    where = f"container {facts.subject.name}"
    journey.add(where, "has no default route", "dropped", evidence=internal, reason=reason, remedy=remedy)
    return journey.path()


def _begin(facts: Facts, own: str, version: int) -> Journey:
    address = ipaddress.ip_address(own)
    excluded = [ipaddress.ip_network(each) for addresses in facts.host.addresses.values() for each in addresses]
    bridges = [network.bridge for network in facts.subject.networks.values() if network.bridge is not None]
    subnets = [segment.subnet for bridge in bridges for segment in bridge.segments]
    loopback = ipaddress.ip_network("127.0.0.0/8" if version == 4 else "::1/128")
    packet = Packet(
        version=version, protocol="tcp", source=address, destination=Other(frozenset([*excluded, *subnets, loopback])), port=None
    )
    return Journey(facts, packet, source=facts.subject.name, destination="elsewhere", direction="out")


def _leave(facts: Facts, endpoint: ContainerEndpoint, version: int) -> Path:
    own, gateway = (endpoint.ipv4, endpoint.gateway) if version == 4 else (endpoint.ipv6, endpoint.gateway6)
    journey = _begin(facts, own, version)
    where = f"container {facts.subject.name}"
    if not facts.subject.is_running:
        remedy = f"teul start {facts.subject.name}"
        journey.add(where, f"does not run: {facts.subject.status}", "refused", reason="the container is not running", remedy=remedy)
        return journey.path()
    route = facts.inside.routes[version] if facts.inside is not None else None
    if route is not None and route.failure:
        evidence = [f"ip route: {route.failure}"]
        reason = "the container's default route is gone: it has been removed inside"
        journey.add(where, "has no default route", "dropped", evidence=evidence, reason=reason, remedy=f"teul restart {facts.subject.name}")
        return journey.path()
    by = f"via {route.gateway} " if route is not None and route.gateway else f"via {gateway} " if gateway else ""
    journey.add(where, f"default route {by}by {endpoint.interface}, of network {endpoint.network_name}")
    network = facts.subject.networks.get(endpoint.network_name)
    if network is None or network.bridge is None:
        parent = network.parent if network is not None else "an interface of the host"
        journey.add(f"the wire of {parent}", "leaves by it: nothing of the host looks at it")
        return journey.path()
    _pass_host(journey, endpoint, network, own)
    return journey.path()


def _pass_host(journey: Journey, endpoint: ContainerEndpoint, network: NetworkFact, own: str) -> None:
    host = journey.facts.host
    assert network.bridge is not None
    bridge = network.bridge.name
    link = host.links.get(endpoint.host_interface)
    if link is None or not link.is_up:
        state = "is not there" if link is None else "is down"
        journey.add(f"link {endpoint.host_interface}", state, "dropped", reason=f"the container's link {endpoint.host_interface} {state}")
        return
    journey.add(f"link {endpoint.host_interface}", f"leads to bridge {bridge}")
    journey.packet = dataclasses.replace(journey.packet, input=bridge)
    journey.pass_hook("prerouting")
    journey.check_forwarding()
    if journey.has_ended():
        return
    route = host.routes_from.get(own)
    if route is None or route.failure or not route.interface:
        said = route.failure if route is not None and route.failure else "no route"
        journey.add(
            "the host's routes",
            "lead nowhere",
            "dropped",
            evidence=[f"ip route: {said}"],
            reason=f"the host has no way out itself: {said}",
            remedy="ip route: the host has no default route",
        )
        return
    via = f" via {route.gateway}" if route.gateway else ""
    journey.add("the host's routes", f"elsewhere is reached{via} by {route.interface}")
    journey.packet = dataclasses.replace(journey.packet, output=route.interface)
    journey.pass_hook("forward")
    journey.pass_legacy()
    journey.pass_hook("postrouting")
    if journey.has_ended():
        return
    out = host.links.get(route.interface)
    if out is not None and not out.is_up:
        journey.add(f"interface {route.interface}", "is down", "dropped", reason=f"{route.interface} is down")
        return
    journey.add(f"interface {route.interface}", "leaves the host")
