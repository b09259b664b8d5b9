"""How a packet for one of a container's own addresses gets there: from its neighbours, and from this host. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator

from teul.model.container import ContainerEndpoint
from teul.model.explanation import Path
from teul.network.ipam import Address
from teul.network.paths.arrival import arrive
from teul.network.paths.facts import Facts, NetworkFact
from teul.network.paths.incoming import Target
from teul.network.paths.journey import Journey
from teul.network.paths.packet import Other, Packet


def direct_paths(facts: Facts, target: Target) -> Iterator[Path]:
    """The ways to one port by the container's own addresses."""
    for endpoint in facts.subject.endpoints:
        yield from _by_own_address(facts, target, endpoint)


def _by_own_address(facts: Facts, target: Target, endpoint: ContainerEndpoint) -> Iterator[Path]:
    """From a container on one of its networks, and from this host where it is published nowhere."""
    network = facts.subject.networks.get(endpoint.network_name)
    for own in filter(None, (endpoint.ipv4, endpoint.ipv6)):
        address = ipaddress.ip_address(own)
        asker = _neighbour(facts, network, address)
        packet = Packet(
            version=address.version,
            protocol=target.protocol,
            source=asker or Other(frozenset({ipaddress.ip_network(own)})),
            destination=address,
            port=target.container_port,
            input=network.bridge.name if network is not None and network.bridge is not None else "",
        )
        who = f"a container on {endpoint.network_name}" if asker is None else str(asker)
        journey = Journey(facts, packet, source=who, destination=packet.place, direction="in")
        if network is not None and network.bridge is not None:
            _cross_bridge(journey, endpoint)
            if not journey.has_ended():
                arrive(journey, endpoint)
            yield journey.path()
            if target.host_port is None:
                packet = dataclasses.replace(packet, source=address, input="", output=network.bridge.name)
                journey = Journey(facts, packet, source="this host", destination=packet.place, direction="in")
                _send_from_host(journey, endpoint)
                yield journey.path()
        else:
            journey.add(
                "the wire",
                f"{endpoint.network_name} is on the wire of {network.parent if network else 'an interface'}: "
                "nothing of the host looks at it",
            )
            arrive(journey, endpoint)
            yield journey.path()


def _neighbour(facts: Facts, network: NetworkFact | None, own: Address) -> Address | None:
    """The one who asks, if that is another container on a bridge."""
    bridge, asker = network.bridge if network is not None else None, facts.asker
    if bridge is None or asker is None or asker == own or facts.host.is_own(asker):
        return None
    return asker if any(asker in segment.subnet for segment in bridge.segments if segment.subnet.version == own.version) else None


def _cross_bridge(journey: Journey, endpoint: ContainerEndpoint) -> None:
    network = journey.facts.subject.networks[endpoint.network_name]
    assert network.bridge is not None
    if not network.bridge.has_icc:
        _keep_apart(journey, network.name, network.bridge.name)
        return
    name = "net/bridge/bridge-nf-call-ip6tables" if journey.packet.version == 6 else "net/bridge/bridge-nf-call-iptables"
    journey.add(f"bridge {network.bridge.name}", "passes it on from port to port")
    if journey.facts.host.settings.get(name) == "1":
        journey.packet = dataclasses.replace(journey.packet, output=network.bridge.name)
        journey.pass_hook("forward")


def _keep_apart(journey: Journey, network: str, bridge: str) -> None:
    """No port sends to another; where the host answers for the neighbours, what is sent to them comes by it, and the firewall decides."""
    version, evidence = journey.packet.version, ["com.docker.network.bridge.enable_icc=false"]
    setting = f"net/ipv4/conf/{bridge}/proxy_arp_pvlan"
    if version == 4 and journey.facts.host.settings.get(setting) == "1":
        evidence.append(f"{setting.replace('/', '.')} = 1")
        journey.add(f"bridge {bridge}", "keeps containers apart: what they send one another comes by the host", evidence=evidence)
        journey.check_forwarding()
        journey.packet = dataclasses.replace(journey.packet, output=bridge)
        journey.pass_hook("forward")
        journey.pass_legacy()
        return
    journey.add(
        f"bridge {bridge}",
        "keeps containers apart",
        "dropped",
        evidence=evidence,
        reason=f"containers of network {network} do not reach each other",
        remedy="make the network without enable_icc=false",
    )


def _send_from_host(journey: Journey, endpoint: ContainerEndpoint) -> None:
    journey.add("this host", f"a process sends to {journey.packet.place}")
    for hook in ("output", "postrouting"):
        journey.pass_hook(hook)
    if not journey.has_ended():
        arrive(journey, endpoint)
