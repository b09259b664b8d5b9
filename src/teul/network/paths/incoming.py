"""How a packet for one port gets into a container: from another host, from this one, from a neighbour, from itself. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from teul.model.container import ContainerEndpoint
from teul.model.explanation import Path
from teul.network.firewall.ports import Forwarding
from teul.network.ipam import Address
from teul.network.paths.arrival import arrive, refuse_at_host
from teul.network.paths.facts import ELSEWHERE, Facts
from teul.network.paths.journey import Journey
from teul.network.paths.packet import Other, Packet

_MOST_ENTRANCES = 8
_MOST_OTHERS = 2  # of other networks, from which a container is reached all the same way
_LOOPBACK: dict[int, Address] = {4: ipaddress.ip_address("127.0.0.1"), 6: ipaddress.ip_address("::1")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A port that packets are sent to. `host_port` is None where it is published nowhere, `addresses` are those of the host on which it is.

    `asked` is the one of the host's addresses that the user asks about.
    """

    container_port: int
    protocol: str
    host_port: int | None = None
    addresses: Sequence[Address] = ()
    asked: Address | None = None

    @property
    def port(self) -> int:
        """The one that is sent to on the host."""
        return self.container_port if self.host_port is None else self.host_port

    def concerns(self, version: int) -> bool:
        """Whether there is something to say about the host's addresses of an IP version."""
        if self.asked is not None:
            return self.asked.version == version
        return not self.addresses or any(each.version == version for each in self.addresses)

    def own_address(self, version: int) -> Address | None:
        """The address of the host that packets are sent to because it is asked about, or because the port is published there alone."""
        if self.asked is not None:
            return self.asked
        named = (each for each in self.addresses if each.version == version and not each.is_unspecified and not each.is_loopback)
        return next(named, None)


def incoming_paths(facts: Facts, target: Target) -> Iterator[Path]:
    """The ways to one port by the host's addresses."""
    for version in (4, 6):
        if not target.concerns(version):
            continue
        endpoint = facts.subject.endpoint_out(version) or facts.subject.endpoint_out(4)
        yield from _from_elsewhere(facts, target, version)
        yield from _from_host(facts, target, version)
        if endpoint is not None:
            yield from _from_containers(facts, target, version, endpoint)


def _from_elsewhere(facts: Facts, target: Target, version: int) -> Iterator[Path]:
    """By each interface by which others may come, or by the one by which the asker's packets do."""
    host = facts.host
    if facts.asker is not None and (facts.asker.version != version or host.is_own(facts.asker)):
        return  # what this host sends has paths of its own
    entrances = _entrances(facts, version)
    for name, known_as in entrances:
        address = target.own_address(version) or known_as
        packet = Packet(
            version=version,
            protocol=target.protocol,
            source=facts.asker or _strangers(facts, version),
            destination=address,
            port=target.port,
            input=name,
            is_local=host.is_own(address),
        )
        who = "another host" if len(entrances) == 1 else f"another host, by {name}"
        who = who if facts.asker is None else str(facts.asker)
        journey = Journey(facts, packet, source=who, destination=packet.place, direction="in")
        if address.is_loopback:
            remedy = f"publish it on another address: {publish(facts, target)}"
            said = "never sends it out: it is its own loopback's address"
            journey.add("another host", said, "refused", reason="published on loopback only", remedy=remedy)
        else:
            _check_entrance(journey, name)
        if not journey.has_ended():
            _go_in(journey, target)
        yield journey.path()


def _entrances(facts: Facts, version: int) -> list[tuple[str, Address]]:
    """Interfaces by which others come, the way to the rest of the world first, each with the address that the host has there.

    Bridges of others lead to their containers and virtual machines; what comes by them is told of only where they lead out as well.
    """
    found: dict[str, Address] = {}
    for name, address in outer_addresses(facts, version):
        found.setdefault(name, address)
    route = facts.host.routes_to.get(str(facts.asker) if facts.asker is not None else ELSEWHERE[version])
    first = route.interface if route is not None else ""
    if facts.asker is not None:
        known_as = found.get(first) or next(iter(found.values()), None)
        return [(first, known_as)] if first and known_as is not None else []
    others = [name for name in found if name != first and not _is_bridge(facts, name)]
    return [(name, found[name]) for name in [*([first] if first in found else []), *others][:_MOST_ENTRANCES]]


def _is_bridge(facts: Facts, name: str) -> bool:
    link = facts.host.links.get(name)
    return link is not None and link.kind == "bridge"


def _check_entrance(journey: Journey, name: str) -> None:
    facts, where = journey.facts, f"interface {name}"
    link = facts.host.links.get(name)
    if link is not None and not link.is_up:
        journey.add(where, "is down", "dropped", reason=f"{name} is down", remedy=f"ip link set {name} up")
        return
    version = journey.packet.version
    route = facts.host.routes_to.get(ELSEWHERE[version])
    if facts.asker is None and version == 4 and _rp_filter(facts, name) == 1 and route is not None and route.interface != name:
        journey.add(
            where,
            "lets in only those to whom the host's routes lead by it",
            "unsure",
            evidence=[f"rp_filter of {name} is 1; the way to the rest of the world is {route.interface or route.failure}"],
            reason=f"what comes in by {name} from elsewhere is dropped by the host's rp_filter",
            remedy=f"tell the address of who does not get there (--from ADDRESS), or: sysctl -w net.ipv4.conf.{name}.rp_filter=2",
        )
        return
    strict = [other for other, _ in _entrances(dataclasses.replace(facts, asker=None), version) if other != name]
    evidence = [
        f"if it comes by {other} it does not get in: rp_filter is 1, and the host's route to it is by {name}"
        for other in strict
        if facts.asker is not None and version == 4 and _rp_filter(facts, other) == 1
    ]
    journey.add(where, f"comes in, for {journey.packet.place}", evidence=evidence)


def _rp_filter(facts: Facts, name: str) -> int:
    """kernel: the stricter of the two; 1 is strict, 2 loose, and the larger number counts."""
    values = [facts.host.settings.get(f"net/ipv4/conf/{each}/rp_filter", "0") for each in ("all", name)]
    return max(int(value) for value in values)


def _from_host(facts: Facts, target: Target, version: int) -> Iterator[Path]:
    own = target.own_address(version) or next((each for _name, each in outer_addresses(facts, version)), None)
    for address in dict.fromkeys([own, _LOOPBACK[version]]) if target.asked is None else [own]:
        if address is None:
            continue
        packet = Packet(
            version=version,
            protocol=target.protocol,
            source=address,
            destination=address,
            port=target.port,
            output="lo",
            is_local=facts.host.is_own(address),
        )
        journey = Journey(facts, packet, source="this host", destination=packet.place, direction="in")
        journey.add("this host", f"a process sends to {packet.place}")
        _go_in(journey, target)
        yield journey.path()


def _from_containers(facts: Facts, target: Target, version: int, endpoint: ContainerEndpoint) -> Iterator[Path]:
    """By an address of the host: by that of their gateway, which is the one that they know."""
    network = facts.subject.networks.get(endpoint.network_name)
    if network is None or network.bridge is None:
        return
    segment = next((each for each in network.bridge.segments if each.subnet.version == version and each.host_address), None)
    own = endpoint.ipv4 if version == 4 else endpoint.ipv6
    if segment is None or segment.host_address is None or not own:
        return
    destination = target.own_address(version) or segment.host_address
    if destination.is_loopback:
        return
    others = sorted(
        (other.name, bridge)
        for bridge, other in facts.host.bridges.items()
        if bridge != network.bridge.name and other.bridge and any(each.subnet.version == version for each in other.bridge.segments)
    )
    neighbour = Other(frozenset({ipaddress.ip_network(own)}))
    sources: list[tuple[str, Address | Other, str]] = [
        (f"a container on {network.name}", neighbour, network.bridge.name),
        ("the container itself", ipaddress.ip_address(own), network.bridge.name),
        *((f"a container on {name}", _strangers(facts, version), bridge) for name, bridge in others[:_MOST_OTHERS]),
    ]
    for who, source, bridge in sources if target.host_port is not None else sources[:1]:
        packet = Packet(
            version=version,
            protocol=target.protocol,
            source=source,
            destination=destination,
            port=target.port,
            input=bridge,
            is_local=True,
        )
        journey = Journey(facts, packet, source=who, destination=packet.place, direction="in")
        journey.add(f"bridge {bridge}", f"comes in, for {packet.place}, which is the host's")
        _go_in(journey, target)
        yield journey.path()


def _go_in(journey: Journey, target: Target) -> None:
    """From the first chain to the container, or to where it is not published."""
    facts = journey.facts
    is_from_host = not journey.packet.input
    source = journey.packet.source
    journey.pass_hook("output" if is_from_host else "prerouting")
    if journey.has_ended():
        return
    endpoint = next(
        (each for each in facts.subject.endpoints if str(journey.packet.destination) in (each.ipv4, each.ipv6)),
        None,
    )
    if journey.packet.was_sent_to is None:
        journey.packet = dataclasses.replace(journey.packet, input=journey.packet.input or "lo", output="")
        journey.pass_hook("input")
        relayed = _relayed(journey)
        if journey.has_ended():
            return
        if relayed is not None:
            _pass_on(journey, relayed)
        else:
            refuse_at_host(journey, target.host_port, target.addresses, remedy=publish(facts, target))
        return
    network = facts.subject.networks.get(endpoint.network_name) if endpoint is not None else None
    if endpoint is None or network is None or network.bridge is None:
        journey.add(
            "the host",
            f"goes to {journey.packet.place}, which is not this container's",
            "refused",
            reason=f"the port leads to {journey.packet.place}: to somebody else",
        )
        return
    if not is_from_host:
        journey.check_forwarding()
    if not journey.has_ended():
        _route(journey, network.bridge.name, is_from_loopback=not isinstance(source, Other) and source.is_loopback)
    if journey.has_ended():
        return
    if not is_from_host:
        journey.pass_hook("forward")
        journey.pass_legacy()
    journey.pass_hook("postrouting")
    if not journey.has_ended():
        arrive(journey, endpoint)


def _relayed(journey: Journey) -> Forwarding | None:
    """What the network agent does with a packet that the host receives; None if it does nothing."""
    packet = journey.packet
    if not journey.facts.subject.is_running or isinstance(packet.destination, Other):
        return None
    version = packet.destination.version
    for each in journey.facts.subject.relayed:
        is_its = each.address == packet.destination or (each.address.is_unspecified and each.address.version == version)
        if is_its and (each.protocol, each.port) == (packet.protocol, packet.port):
            return each
    return None


def _pass_on(journey: Journey, relayed: Forwarding) -> None:
    """The agent sends what has come to the container, from the host's own address there."""
    facts = journey.facts
    endpoint = next((each for each in facts.subject.endpoints if str(relayed.target) in (each.ipv4, each.ipv6)), None)
    network = facts.subject.networks.get(endpoint.network_name) if endpoint is not None else None
    segments = network.bridge.segments if network is not None and network.bridge is not None else ()
    own = next((each.host_address for each in segments if relayed.target in each.subnet and each.host_address is not None), None)
    if endpoint is None or network is None or network.bridge is None or own is None:
        journey.add(
            "the network agent", f"sends it to {relayed.target}, which is not this container's", "refused", reason="it leads elsewhere"
        )
        return
    journey.packet = Packet(
        version=relayed.target.version,
        protocol=relayed.protocol,
        source=own,
        destination=relayed.target,
        port=relayed.target_port,
        output=network.bridge.name,
    )
    journey.add("the network agent", f"takes it, and sends what comes on to {journey.packet.place}, from {own}")
    for hook in ("output", "postrouting"):
        journey.pass_hook(hook)
    if not journey.has_ended():
        arrive(journey, endpoint)


def _route(journey: Journey, bridge: str, *, is_from_loopback: bool) -> None:
    host = journey.facts.host
    route = host.routes_to.get(str(journey.packet.destination))
    if journey.facts.subject.is_running and route is not None and route.interface != bridge:
        said = route.failure or f"leads to {route.interface or 'the host itself'}"
        journey.add(
            "the host's routes",
            said,
            "dropped",
            evidence=[f"ip route get {journey.packet.destination}: {said}"],
            reason=f"the host's route to {journey.packet.destination} does not lead to {bridge}: {said}",
            remedy="ip route; ip rule: something else has the addresses of the network",
        )
        return
    setting = f"net/ipv4/conf/{bridge}/route_localnet"
    if is_from_loopback and journey.packet.version == 4 and host.settings.get(setting) == "0":
        name = setting.replace("/", ".")
        journey.add(
            "the host's routes",
            "a packet from 127.0.0.1 is not sent out",
            "dropped",
            evidence=[f"{name} = 0"],
            reason=f"{name} is 0",
            remedy=f"sysctl -w {name}=1",
        )
        return
    journey.packet = dataclasses.replace(journey.packet, output=bridge)
    journey.add("the host's routes", f"{journey.packet.destination} is on {bridge}")


def outer_addresses(facts: Facts, version: int) -> list[tuple[str, Address]]:
    """The addresses under which others know the host: not those of loopback and of the engine's bridges, nor link-local ones."""
    return [
        (name, address)
        for name, addresses in facts.host.addresses.items()
        if name not in facts.host.bridges and name != "lo"
        for address in addresses
        if address.version == version and not address.is_link_local and not address.is_loopback
    ]


def _strangers(facts: Facts, version: int) -> Other:
    """Addresses of others: none of the host's, and none of the container's networks."""
    own = [ipaddress.ip_network(address) for addresses in facts.host.addresses.values() for address in addresses]
    bridges = [network.bridge for network in facts.subject.networks.values() if network.bridge is not None]
    subnets = [segment.subnet for bridge in bridges for segment in bridge.segments]
    loopback = ipaddress.ip_network("127.0.0.0/8" if version == 4 else "::1/128")
    return Other(frozenset([*own, *subnets, loopback]))


def publish(facts: Facts, target: Target) -> str:
    """The command that publishes a port."""
    protocol = "" if target.protocol == "tcp" else f"/{target.protocol}"
    return f"teul port add {facts.subject.name} {target.port}:{target.container_port}{protocol}"
