"""Facts turned into an explanation. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from teul.model.container import ContainerEndpoint
from teul.model.explanation import Explanation, NetworkSide, Path
from teul.network.firewall.ports import forwardings
from teul.network.firewall.table import rule_counts
from teul.network.ipam import Address
from teul.network.paths.arrival import text
from teul.network.paths.direct import direct_paths
from teul.network.paths.facts import Facts, HostFacts, Subject
from teul.network.paths.incoming import Target, incoming_paths
from teul.network.paths.journey import Journey
from teul.network.paths.outgoing import outgoing_paths
from teul.network.paths.packet import Other, Packet
from teul.network.paths.ruleset import Key, Ruleset
from teul.network.ports.plan import parse_host_address, parse_port

_MOST_LISTENERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about: a port, of all of the host's addresses or of one."""

    port: int
    protocol: str
    address: Address | None = None


def parse_question(words: str) -> Question:
    """`8080`, `443/udp`, `127.0.0.1:8080`, `[::1]:53/udp`. Raises ValueError."""
    place, _, port = words.rpartition(":")
    if place.startswith("[") and place.endswith("]"):
        place = place[1:-1]
    elif ":" in place:
        raise ValueError(f"not a port: {words!r}")
    number, protocol = parse_port(port)
    return Question(port=number, protocol=protocol, address=parse_host_address(place))


def explain(facts: Facts, question: Question | None = None) -> Explanation:
    """How the container is connected; with a question, how packets for one port get there and how they do not."""
    subject = facts.subject
    if not subject.is_running:
        facts = dataclasses.replace(facts, host=with_planned(facts.host, subject))
    paths: list[Path] = []
    if question is None:
        paths += outgoing_paths(facts)
    if subject.mode == "host":
        if question is not None:
            paths += _by_hosts_network(facts, question)
    elif subject.mode != "none":
        chosen = targets(subject, question)
        for target in chosen:
            paths += incoming_paths(facts, target)
        # One port of the container may be published several times.
        for target in {(each.container_port, each.protocol): each for each in chosen}.values():
            paths += direct_paths(facts, target)
    return Explanation(
        id=subject.id,
        name=subject.name,
        running=subject.is_running,
        networks=[_side(subject, endpoint) for endpoint in subject.endpoints],
        names=list(subject.resolver),
        paths=paths,
        notes=[*_notes(facts)],
    )


def targets(subject: Subject, question: Question | None) -> list[Target]:
    """The ports to be explained: all that are published, or those that are asked for. One that is not published is one target as well."""
    groups: dict[tuple[int, str, int], list[Address]] = {}
    for port in (port for endpoint in subject.endpoints for port in endpoint.ports):
        key = port.host_port, port.protocol, port.container_port
        groups.setdefault(key, []).append(ipaddress.ip_address(port.host_address))
    found = [
        Target(container_port=inner, protocol=protocol, host_port=outer, addresses=addresses)
        for (outer, protocol, inner), addresses in groups.items()
    ]
    if question is None:
        return found
    same = [target for target in found if target.protocol == question.protocol]
    chosen = [target for target in same if target.host_port == question.port] or [
        target for target in same if target.container_port == question.port and question.address is None
    ]
    if not chosen:
        return [Target(container_port=question.port, protocol=question.protocol, asked=question.address)]
    return [dataclasses.replace(target, asked=question.address) for target in chosen]


def with_planned(host: HostFacts, subject: Subject) -> HostFacts:
    """The host as it would be if the container ran: with an element for each of its ports."""
    sets: dict[Key, Sequence[Any]] = dict(host.ruleset.sets)
    for each in (forwarding for endpoint in subject.endpoints for forwarding in forwardings(endpoint)):
        is_bound = not each.address.is_unspecified
        key: list[Any] = [*([str(each.address)] if is_bound else []), each.protocol, each.port]
        place: Key = ("inet", host.table, f"{'bound' if is_bound else 'ports'}{each.address.version}")
        sets[place] = (*sets.get(place, ()), [{"concat": key}, {"concat": [str(each.target), each.target_port]}])
    return dataclasses.replace(host, ruleset=Ruleset(host.ruleset.chains, sets, host.ruleset.own_chain))


def _by_hosts_network(facts: Facts, question: Question) -> Iterator[Path]:
    """The container is on the host's network: what it listens on is a port of the host's."""
    for name, addresses in facts.host.addresses.items():
        if name == "lo" or name in facts.host.bridges:
            continue
        for address in addresses:
            if question.address not in (None, address) or address.is_link_local:
                continue
            packet = Packet(
                version=address.version,
                protocol=question.protocol,
                source=facts.asker or Other(frozenset(ipaddress.ip_network(each) for each in addresses)),
                destination=address,
                port=question.port,
                input=name,
                is_local=True,
            )
            journey = Journey(facts, packet, source="another host", destination=packet.place, direction="in")
            journey.add(f"interface {name}", f"comes in, for {packet.place}")
            for hook in ("prerouting", "input"):
                journey.pass_hook(hook)
            if not journey.has_ended():
                _be_taken_by_host(journey, question)
            yield journey.path()


def _be_taken_by_host(journey: Journey, question: Question) -> None:
    place = f"{question.port}/{question.protocol}"
    if journey.packet.was_sent_to is not None:
        journey.add(
            "the host",
            f"goes to {journey.packet.place}, which is another container",
            "refused",
            reason=f"another container publishes port {place}",
        )
        return
    found = [
        each
        for each in journey.facts.host.listeners
        if (each.protocol, each.port) == (question.protocol, question.port)
        and (each.address == journey.packet.destination or each.address.is_unspecified)
    ]
    if found:
        evidence = [f"listens: {', '.join(map(text, found))}"]
        journey.add("the host", "a process takes it: the container's, or the host's own", evidence=evidence)
    else:
        journey.add("the host", f"nobody listens on {place}", "refused", reason=f"nothing listens on {place} of the host's network")


def _side(subject: Subject, endpoint: ContainerEndpoint) -> NetworkSide:
    network = subject.networks.get(endpoint.network_name)
    addresses = [(endpoint.ipv4, endpoint.ipv4_prefix), (endpoint.ipv6, endpoint.ipv6_prefix)]
    return NetworkSide(
        name=endpoint.network_name,
        driver=network.driver if network is not None else "",
        internal=network.internal if network is not None else False,
        bridge=network.bridge.name if network is not None and network.bridge is not None else "",
        host_interface=endpoint.host_interface,
        interface=endpoint.interface,
        mac_address=endpoint.mac,
        addresses=[f"{address}/{length}" for address, length in addresses if address] if subject.is_running else [],
        gateways=[gateway for gateway in (endpoint.gateway, endpoint.gateway6) if gateway],
        way_out=[version for version in (4, 6) if subject.way_out.get(version) == endpoint.network_name],
    )


def _notes(facts: Facts) -> Iterator[str]:
    subject, host = facts.subject, facts.host
    if subject.mode == "host":
        yield "it has the host's network: what it listens on is a port of the host's"
    elif subject.mode == "none":
        yield "it has no network, its own loopback alone"
    elif subject.mode:
        yield f"it has the network of {subject.mode.removeprefix('container:')}: what follows is about that container's"
    if not subject.is_running:
        yield f"it does not run ({subject.status}): this is what would be; addresses and ports that were not asked for are examples"
    for network in subject.networks.values():
        if network.bridge is None and network.parent:
            yield f"on {network.name} it is a host on the wire of {network.parent} like others; this host does not reach it by that wire"
    if not host.has_library:
        yield "libnftables is missing: no chain was looked at"
    elif any(network.bridge is not None for network in subject.networks.values()):
        yield from _changed_chains(host)
    yield from _unpublished(facts)


def _changed_chains(host: HostFacts) -> Iterator[str]:
    if not host.ruleset.has_table("inet", host.table):
        yield f"there is no table inet {host.table}: somebody has flushed it; networks are not kept apart, and nothing is published"
        return
    for name, count in rule_counts().items():
        chain = host.ruleset.chains.get(("inet", host.table, name))
        found = len(chain.rules) if chain is not None else 0
        if found != count:
            yield f"chain {name} of table inet {host.table} has {found} rules, not the engine's {count}: somebody has changed it"


def _unpublished(facts: Facts) -> Iterator[str]:
    if facts.inside is None or facts.subject.mode:
        return
    published = {(port.protocol, port.container_port) for each in facts.subject.endpoints for port in each.ports}
    # 127.0.0.11 and the like are loopback's own.
    found = sorted(
        {
            (each.port, each.protocol)
            for each in facts.inside.listeners
            if not each.address.is_loopback and (each.protocol, each.port) not in published
        }
    )
    if found and len(found) <= _MOST_LISTENERS:
        yield f"listens inside and is not published: {', '.join(f'{port}/{protocol}' for port, protocol in found)}"
