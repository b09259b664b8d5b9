"""What is known of a container's network and of the host's when their paths are explained: facts, all of them looked up in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from teul.linux.netlink.messages import Link
from teul.model.container import ContainerEndpoint
from teul.network.bridge import Bridge
from teul.network.firewall.forward_policy import LegacyChain
from teul.network.firewall.ports import Forwarding
from teul.network.ipam import Address
from teul.network.paths.ruleset import Ruleset

_NO_RULES = Ruleset()

ELSEWHERE: dict[int, str] = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Addresses that stand for the rest of the world when routes are asked for: nobody has them (RFC 5737, RFC 3849)."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes what comes for its port; for any address if its own is unspecified.

    `takes_ipv4`, of one on ::, whether that is so for IPv4 addresses as well; None where it is not known.
    """

    protocol: str
    address: Address
    port: int
    takes_ipv4: bool | None = None


@dataclass(frozen=True, slots=True)
class RouteFact:
    """Where the kernel would send a packet: `interface` and `gateway` ("": on the link). With a `failure`, in its words, nowhere."""

    interface: str = ""
    gateway: str = ""
    source: str = ""
    is_local: bool = False
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFact:
    """A network that the container is on, or is to be on: with its bridge, or with the interface that its wire is of."""

    name: str
    driver: str
    internal: bool = False
    bridge: Bridge | None = None
    parent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The container as its record has it. Of one that does not run, `endpoints` are what they might be.

    `mode` is "" for a network of its own, else `host`, `none`, or `container:` with the name of the one whose network it shares.
    `way_out` is the name of the network by IP version. `relayed` are the published ports that the network agent takes on the host, as far
    as the kernel has not led them to the container before. `resolver` says how it resolves names, in lines.
    """

    id: str
    name: str
    status: str
    is_running: bool
    mode: str = ""
    networks: Mapping[str, NetworkFact] = field(default_factory=dict)
    endpoints: Sequence[ContainerEndpoint] = ()
    way_out: Mapping[int, str] = field(default_factory=dict)
    relayed: Sequence[Forwarding] = ()
    resolver: Sequence[str] = ()

    def endpoint_out(self, version: int) -> ContainerEndpoint | None:
        """The endpoint by which it reaches the rest of the world."""
        name = self.way_out.get(version)
        return next((each for each in self.endpoints if each.network_name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The host's side. `table` is the engine's nftables table, `bridges` are all of the engine's, by their names, with
    their networks.

    `settings` are of /proc/sys, by name; what there is not is missing. `routes_to` are the host's own routes by destination; `routes_from`
    those of what a container sends elsewhere, by the container's address.
    """

    table: str
    bridges: Mapping[str, NetworkFact] = field(default_factory=dict)
    has_library: bool = True
    ruleset: Ruleset = _NO_RULES
    legacy: Sequence[LegacyChain] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)
    addresses: Mapping[str, Sequence[Address]] = field(default_factory=dict)
    routes_to: Mapping[str, RouteFact] = field(default_factory=dict)
    routes_from: Mapping[str, RouteFact] = field(default_factory=dict)
    listeners: Sequence[Listener] = ()

    def is_own(self, address: Address) -> bool:
        """Whether it is one of the host's own addresses."""
        return address.is_loopback or any(address in those for those in self.addresses.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class InsideFacts:
    """The container's own namespace: its links, its route to the rest of the world by IP version, and who waits for packets in it."""

    links: Mapping[str, Link] = field(default_factory=dict)
    routes: Mapping[int, RouteFact] = field(default_factory=dict)
    listeners: Sequence[Listener] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything. `inside` is None of a container that does not run. `asker` is the address of the one who does not get there, if given."""

    subject: Subject
    host: HostFacts
    inside: InsideFacts | None = None
    asker: Address | None = None
