"""Which published ports address translation leads to their containers, and which are relayed. Pure.

What is relayed comes to a socket on the host and is passed on from there by the network agent; the container sees it come from its
network's gateway.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

from teul.model.container import ContainerEndpoint
from teul.network.firewall.ports import Forwarding, forwardings, translated_to

PublishedPorts = Literal["translate", "relay"]
"""What is done with published ports: `translate` where the kernel can, or `relay` all of them, so that the host receives what comes."""
TRANSLATE: PublishedPorts = "translate"
RELAY: PublishedPorts = "relay"

RELAYED_PROTOCOLS = ("tcp", "udp")


@dataclass(frozen=True, slots=True)
class Ways:
    """How what comes for the ports of an endpoint gets to its container; a port may be in both, for different senders."""

    translated: list[Forwarding]
    relayed: list[Forwarding]


def ways_of(endpoint: ContainerEndpoint, mode: PublishedPorts) -> Ways:
    """How each port of an endpoint gets to the container. A protocol that is not relayed is in neither where it would have to be."""
    found: list[Forwarding] = []
    for port in endpoint.ports:
        address = ipaddress.ip_address(port.host_address)
        target = endpoint.ipv4 if address.version == 4 else endpoint.ipv6 or endpoint.ipv4
        # Of all IPv6 addresses, ::1 is one.
        is_partly = address.version == 6 and address.is_unspecified
        is_needed = mode == RELAY or is_partly or translated_to(endpoint, port) is None
        if is_needed and target and port.protocol in RELAYED_PROTOCOLS:
            found.append(
                Forwarding(
                    address=address,
                    protocol=port.protocol,
                    port=port.host_port,
                    target=ipaddress.ip_address(target),
                    target_port=port.container_port,
                )
            )
    return Ways(forwardings(endpoint) if mode == TRANSLATE else [], found)
