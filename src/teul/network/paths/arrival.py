"""The two ends that a packet for a port may come to: the container's own program, and the host. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from teul.model.container import ContainerEndpoint
from teul.network.ipam import Address
from teul.network.paths.facts import Listener
from teul.network.paths.journey import Journey
from teul.network.paths.packet import Other


def arrive(journey: Journey, endpoint: ContainerEndpoint) -> None:
    """From the bridge into the container, and to whoever waits there for the packet."""
    facts = journey.facts
    network = facts.subject.networks.get(endpoint.network_name)
    if facts.subject.is_running and endpoint.host_interface and network is not None and network.bridge is not None:
        link, bridge = facts.host.links.get(endpoint.host_interface), facts.host.links.get(network.bridge.name)
        if link is None or bridge is None or link.master != bridge.ifindex or not link.is_up or not bridge.is_up:
            state = "is not there" if link is None else "is down" if not link.is_up else "is not on the bridge, or that is down"
            journey.add(
                f"link {endpoint.host_interface}",
                state,
                "dropped",
                reason=f"the container's link {endpoint.host_interface} {state}",
                remedy=f"teul network disconnect {network.name} {facts.subject.name}, and connect it again",
            )
            return
        journey.add(f"link {endpoint.host_interface}", f"leads to {endpoint.interface} inside, {endpoint.mac}")
    _take(journey, endpoint)


def _take(journey: Journey, endpoint: ContainerEndpoint) -> None:
    facts, packet = journey.facts, journey.packet
    where = f"container {facts.subject.name}"
    if not facts.subject.is_running or facts.inside is None:
        remedy = f"teul start {facts.subject.name}"
        journey.add(where, f"does not run: {facts.subject.status}", "refused", reason="the container is not running", remedy=remedy)
        return
    inner = facts.inside.links.get(endpoint.interface)
    if inner is not None and not inner.is_up:
        journey.add(where, f"has {endpoint.interface} down", "dropped", reason=f"{endpoint.interface} is down inside")
        return
    if _is_from_elsewhere(journey) and facts.inside.routes[packet.version].failure:
        journey.add(
            where,
            "has no route for the answer",
            "dropped",
            evidence=[f"its route to elsewhere: {facts.inside.routes[packet.version].failure}"],
            reason="the container has no default route, so its answer does not get out",
            remedy="a default route inside; it is set at the container's start",
        )
        return
    listeners = [each for each in facts.inside.listeners if (each.protocol, each.port) == (packet.protocol, packet.port)]
    if packet.protocol not in ("tcp", "udp"):
        journey.add(where, f"it is not known who takes {packet.protocol} inside", "unsure", reason=f"{packet.protocol} is not looked at")
        return
    assert not isinstance(packet.destination, Other)
    taking = [each for each in listeners if _takes(each, packet.destination)]
    if taking:
        _be_taken(journey, where, taking)
        return
    place = f"port {packet.port}/{packet.protocol}"
    remedy = f"teul logs {facts.subject.name}; have the program listen on 0.0.0.0:{packet.port}"
    if listeners:
        named = ", ".join(text(each) for each in listeners)
        kind = "on loopback only" if all(each.address.is_loopback for each in listeners) else f"on {named} only"
        journey.add(
            where,
            f"listens {kind}",
            "refused",
            evidence=[f"listens: {named}"],
            reason=f"the program inside listens {kind}, not on {packet.destination}",
            remedy=remedy,
        )
        return
    others = [text(each) for each in facts.inside.listeners if each.protocol == packet.protocol and not each.address.is_loopback]
    evidence = [f"listens: {', '.join(others)}"] if others else [f"nobody listens for {packet.protocol} at all"]
    journey.add(
        where, f"nobody listens on {place}", "refused", evidence=evidence, reason=f"nothing listens on {place} inside", remedy=remedy
    )


def _be_taken(journey: Journey, where: str, taking: Sequence[Listener]) -> None:
    evidence = [f"listens: {', '.join(text(each) for each in taking)}"]
    if journey.packet.version == 4 and all(each.address.version == 6 and each.takes_ipv4 is None for each in taking):
        evidence.append("a socket on :: takes IPv4 as well, unless its program has asked for IPv6 only")
    if journey.facts.subject.status == "paused":
        journey.add(
            where,
            "is paused: connections come about, and nobody answers",
            "unsure",
            evidence=evidence,
            reason="the container is paused",
            remedy=f"teul unpause {journey.facts.subject.name}",
        )
        return
    journey.add(where, "its program takes it", evidence=evidence)


def _is_from_elsewhere(journey: Journey) -> bool:
    """Whether the answer has to find its way by the default route: not to the network's own gateway, or a neighbour."""
    return (
        journey.packet.was_sent_to is not None
        and isinstance(journey.packet.input, str)
        and not (not journey.packet.input or journey.packet.input in journey.facts.host.bridges)
    )


def _takes(listener: Listener, destination: Address) -> bool:
    """kernel: a socket on :: takes IPv4, too, unless told otherwise."""
    if listener.address.is_unspecified:
        return listener.address.version == destination.version or (listener.address.version == 6 and listener.takes_ipv4 is not False)
    address = listener.address
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return destination in (address, mapped)


def refuse_at_host(journey: Journey, host_port: int | None, addresses: Sequence[Address], *, remedy: str) -> None:
    """The packet was led to no container: it is the host's own."""
    facts, packet = journey.facts, journey.packet
    assert not isinstance(packet.destination, Other)
    destination = packet.destination
    taking = [
        each for each in facts.host.listeners if (each.protocol, each.port) == (packet.protocol, packet.port) and _takes(each, destination)
    ]
    if host_port is None and taking:
        journey.add(
            "the host",
            "a process of the host's own takes it",
            "refused",
            evidence=[f"listens: {', '.join(map(text, taking))}"],
            reason="that port is published by no container: a process of the host's has it",
        )
        return
    reason, remedy = _why_not_led(journey, host_port, addresses, remedy)
    # Of a port that is published the engine has a socket, so that nobody else gets it; that of UDP takes what comes, and drops it.
    if host_port is not None and packet.protocol == "udp":
        journey.add("the host", "is led to no container; the engine's own socket drops it", "dropped", reason=reason, remedy=remedy)
    else:
        journey.add("the host", "is led to no container, and nobody listens there", "refused", reason=reason, remedy=remedy)


def _why_not_led(journey: Journey, host_port: int | None, addresses: Sequence[Address], remedy: str) -> tuple[str, str]:
    facts, packet = journey.facts, journey.packet
    assert not isinstance(packet.destination, Other)
    destination = packet.destination
    if host_port is None:
        own = [address for each in facts.subject.endpoints for address in (each.ipv4, each.ipv6) if address]
        places = f" by {', '.join(own)}" if own else ""
        if not facts.subject.way_out:
            return (
                "the container's networks have no way out, so none of its ports is published",
                "teul network connect bridge " + facts.subject.name,
            )
        return f"not published: reachable only from containers on the same networks and from this host{places}", remedy
    if not facts.host.ruleset.has_table("inet", facts.host.table):
        if not facts.host.has_library:
            return "the engine has no libnftables, so no port is led anywhere", "apt-get install libnftables1"
        again = "restart the engine, or start a container that publishes ports: the table is made anew then"
        return f"the engine's table inet {facts.host.table} is gone, as after `nft flush ruleset`", again
    fitting = [each for each in addresses if each == destination or (each.is_unspecified and each.version == destination.version)]
    if not fitting:
        places = ", ".join(map(str, addresses))
        if all(each.is_loopback for each in addresses):
            return f"published on loopback only ({places})", f"publish it on all addresses: {remedy}"
        return f"published on {places} only", f"publish it on that address, too: {remedy}"
    if destination.version == 6 and destination.is_loopback:
        return "what comes from ::1 never leaves the host: the kernel translates it to nowhere", "use 127.0.0.1"
    out = facts.subject.endpoint_out(destination.version)
    if destination.version == 6 and (out is None or not out.ipv6):
        return "the container has no IPv6 address, and IPv6 is not translated to IPv4", "use IPv4, or put it on a network with --ipv6"
    again = f"teul restart {facts.subject.name}, or restart the engine: its ports are led there anew then"
    return f"the engine's table has no element for this port ({packet.protocol} {packet.port}), though it should", again


def text(listener: Listener) -> str:
    """`0.0.0.0:80`."""
    return f"[{listener.address}]:{listener.port}" if listener.address.version == 6 else f"{listener.address}:{listener.port}"
