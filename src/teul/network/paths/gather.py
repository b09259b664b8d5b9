"""Looks at the host, and into a container's namespace, for the facts that explain a path. Everything here blocks and raises `OSError`."""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Iterable, Mapping

from teul.linux import netns
from teul.linux.listeners import list_listeners
from teul.linux.netlink.messages import Link
from teul.linux.netlink.socket import Netlink
from teul.linux.nftables import LibraryMissing
from teul.network import sysctls
from teul.network.firewall import forward_policy, scripts
from teul.network.ipam import Address
from teul.network.names import HostNames
from teul.network.paths.facts import ELSEWHERE, HostFacts, InsideFacts, Listener, NetworkFact, RouteFact, Subject
from teul.network.paths.ruleset import Ruleset, parse_ruleset

_SETTINGS = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter")
_BRIDGE_SETTINGS = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")
_INTERFACE_SETTINGS = ("rp_filter", "route_localnet", "forwarding", "proxy_arp_pvlan")


def look_at_host(names: HostNames, subject: Subject, *, bridges: Mapping[str, NetworkFact], asker: Address | None = None) -> HostFacts:
    """The host's side of a container's paths. `bridges` are as of `HostFacts`."""
    with Netlink() as host:
        links = {link.name: link for link in host.list_links()}
        by_index = {link.ifindex: link.name for link in links.values()}
        addresses: dict[str, list[Address]] = {}
        for prefix in host.list_addresses():
            addresses.setdefault(by_index.get(prefix.link_index, ""), []).append(ipaddress.ip_address(prefix.address))
        wanted = [*ELSEWHERE.values(), *([str(asker)] if asker is not None else [])]
        own = [address for endpoint in subject.endpoints for address in (endpoint.ipv4, endpoint.ipv6) if address]
        routes_to = {address: _route(host, by_index, address) for address in (*wanted, *own)}
        routes_from = dict(_routes_from(host, by_index, links, subject))
    ruleset, has_library = _ruleset(names)
    return HostFacts(
        table=names.table,
        bridges=bridges,
        has_library=has_library,
        ruleset=ruleset,
        legacy=forward_policy.list_legacy(names.chain),
        settings=_settings(links),
        links=links,
        addresses=addresses,
        routes_to=routes_to,
        routes_from=routes_from,
        listeners=_listeners(),
    )


def look_inside(netns_fd: int) -> InsideFacts:
    """The namespace of a container that runs; `netns_fd` is as of `netns.run_inside`. Raises ProcessLookupError if it has ended."""
    return netns.run_inside(netns_fd, _look_around)


def _look_around() -> InsideFacts:
    with Netlink() as inside:
        links = {link.name: link for link in inside.list_links()}
        by_index = {link.ifindex: link.name for link in links.values()}
        routes = {version: _route(inside, by_index, address) for version, address in ELSEWHERE.items()}
    return InsideFacts(links=links, routes=routes, listeners=_listeners())


def _listeners() -> list[Listener]:
    return [Listener(each.protocol, ipaddress.ip_address(each.address), each.port, each.takes_ipv4) for each in list_listeners()]


def _route(host: Netlink, by_index: dict[int, str], destination: str, *, source: str = "", input_index: int = 0) -> RouteFact:
    try:
        found = host.find_route(destination, source=source, input_index=input_index)
    except OSError as error:
        # What the kernel answers is where the packet ends; everything else is a failure to ask.
        if error.errno not in _ENDS:
            raise
        # kernel: it says EXDEV, or newer ones EINVAL, of a source that it does not believe.
        is_disbelieved = input_index and error.errno in (errno.EXDEV, errno.EINVAL)
        return RouteFact(failure="the kernel does not believe the source (rp_filter)" if is_disbelieved else os.strerror(error.errno or 0))
    return RouteFact(by_index.get(found.link_index, ""), found.gateway, found.source, found.is_local)


_ENDS = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.EXDEV, errno.ENETDOWN, errno.EAFNOSUPPORT, errno.ENODEV)


def _routes_from(host: Netlink, by_index: dict[int, str], links: dict[str, Link], subject: Subject) -> Iterable[tuple[str, RouteFact]]:
    """What a container sends elsewhere, by its address there."""
    for version, destination in ELSEWHERE.items():
        endpoint = subject.endpoint_out(version)
        network = subject.networks.get(endpoint.network_name) if endpoint is not None else None
        bridge = links.get(network.bridge.name) if network is not None and network.bridge is not None else None
        address = "" if endpoint is None else endpoint.ipv4 if version == 4 else endpoint.ipv6
        if bridge is not None and address:
            yield address, _route(host, by_index, destination, source=address, input_index=bridge.ifindex)


def _ruleset(names: HostNames) -> tuple[Ruleset, bool]:
    """What nftables has, and whether there is a library to ask."""
    try:
        document = scripts.run("list ruleset\n", json=True)
        listing = scripts.run("list ruleset\n", handles=True, terse=True)
    except LibraryMissing:
        return Ruleset(), False
    try:
        return parse_ruleset(document, listing, own_table=names.table, own_chain=names.chain), True
    except ValueError as error:
        raise OSError(errno.EPROTO, f"nft: {error}") from error


def _settings(links: Iterable[str]) -> dict[str, str]:
    names = [*_SETTINGS, *_BRIDGE_SETTINGS, *(f"net/ipv4/conf/{link}/{name}" for link in links for name in _INTERFACE_SETTINGS)]
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = sysctls.read(name)
        except FileNotFoundError:
            continue  # a kernel without it, or a link that has gone
    return found
