"""Bridge devices of networks, as data and on the host; and which addresses the host uses already. What touches the host blocks."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from teul.linux.netlink import messages
from teul.linux.netlink.messages import Link, Prefix
from teul.linux.netlink.socket import Netlink
from teul.network.endpoints import mac_for
from teul.network.ipam import Address, Subnet, overlaps
from teul.network.sysctls import Sysctls

_STANDARD_MTU = 1500
_IP_FORWARD = "net/ipv4/ip_forward"
_IPV6_FORWARD = "net/ipv6/conf/all/forwarding"


class NotABridge(Exception):
    """What has the name of the bridge is something else. The text is Docker's."""

    def __init__(self, name: str) -> None:
        super().__init__(f"existing interface {name} is not a bridge")


class BridgeMissing(Exception):
    """A bridge that is the administrator's to make is not there. The text is Docker's."""

    def __init__(self, name: str) -> None:
        super().__init__(f"bridge device with non default name {name} must be created manually")


class SubnetTaken(Exception):
    """Something else on the host has come to use the addresses that were chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One subnet on a bridge. Containers route by `gateway`, if there is one; the bridge itself has `host_address`, if there is one."""

    subnet: Subnet
    gateway: Address | None
    host_address: Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A network's bridge. `mtu` 0: that of the host's way out; a bridge as it stands on the host has a number.

    Nothing leaves an `is_internal` bridge or comes in. Without `has_icc` its containers do not reach each other; without
    `is_masqueraded` they go out under their own addresses. Inside, links are named by `interface_prefix` and a number. One that `is_given`
    is the administrator's, and never made.
    """

    name: str
    segments: tuple[Segment, ...]
    mtu: int = 0
    is_internal: bool = False
    has_icc: bool = True
    is_masqueraded: bool = True
    interface_prefix: str = "eth"
    is_given: bool = False

    @property
    def has_ipv6(self) -> bool:
        return any(segment.subnet.version == 6 for segment in self.segments)


def group_of(owner: str) -> int:
    """The number of a group of links (ip-link(8)) in which all are that an engine makes, so that they can be told and deleted together."""
    return 0x7E000000 | int.from_bytes(hashlib.sha256(owner.encode()).digest()[:3], "big")


def ensure_bridge(bridge: Bridge, sysctls: Sysctls, *, group: int, is_exclusive: bool = False) -> Bridge:
    """Make the bridge, or take over the one that is there, and see to it that it can forward. Idempotent.

    A bridge that is there and is not of the `group` is somebody's own: it gets the addresses that are missing and loses none. With
    `is_exclusive` the subnets must not overlap what the host uses elsewhere: two engines that choose at once do not choose the same.
    One that is given, and said to have no subnets, is left as it is, and returned with those that it has.
    Raises `OSError`, NotABridge, BridgeMissing, SubnetTaken.
    """
    with _choosing(), Netlink() as host:
        existing = host.get_link(name=bridge.name)
        if existing is not None and existing.kind != "bridge":
            raise NotABridge(bridge.name)
        if bridge.is_given:
            if existing is None:
                raise BridgeMissing(bridge.name)
            if not bridge.segments:
                return dataclasses.replace(bridge, segments=_segments_of(host, existing))
        if is_exclusive:
            claims = _claims(host, except_index=existing.ifindex if existing else 0)
            if any(overlaps(segment.subnet, claims) for segment in bridge.segments):
                raise SubnetTaken
        bridge = dataclasses.replace(bridge, mtu=bridge.mtu or _uplink_mtu(host))
        link = existing
        if link is None:
            host.execute(messages.new_bridge(name=bridge.name, mac=_mac_of(bridge), mtu=bridge.mtu, group=group), subject=bridge.name)
            link = host.get_link(name=bridge.name)
            assert link is not None
        elif not link.is_up or (link.group == group and link.mtu != bridge.mtu):
            host.execute(messages.set_link(index=link.ifindex, is_up=True, mtu=bridge.mtu), subject=bridge.name)
        if existing is None or link.group == group:
            # kernel: nothing is forwarded to neighbours that are yet to be found while the address that asks for them is being checked, for
            # more than a second after the first container has come. Nobody else is on this bridge who could have it.
            sysctls.ensure(f"net/ipv6/conf/{bridge.name}/accept_dad", "0", is_kept=False)
            # A container could reach the host by the bridge's link-local address, past rules that were written for IPv4.
            sysctls.ensure(f"net/ipv6/conf/{bridge.name}/disable_ipv6", "0" if bridge.has_ipv6 else "1", is_kept=False)
            _ensure_neighbours(bridge, sysctls)
        _ensure_addresses(host, link, bridge, is_ours=link.group == group)
    _ensure_forwarding(bridge, sysctls)
    return bridge


def remove_bridge(name: str, *, group: int) -> None:
    """Delete the bridge if it is there and of the group; its ports stay, on no bridge. Raises `OSError`."""
    with Netlink() as host:
        link = host.get_link(name=name)
        if link is not None and link.kind == "bridge" and link.group == group:
            _delete(host, link.ifindex, name)


def remove_bridges(group: int) -> None:
    """Delete all links of the group together, which takes hardly longer than one. Raises `OSError`."""
    with Netlink() as host:
        try:
            host.execute(messages.delete_links(group=group), subject=f"group {group:#x}")
        except OSError as error:
            if error.errno != errno.ENODEV:  # there is none
                raise


def remove_other_links(names: Sequence[str], *, group: int) -> list[str]:
    """Delete the links of the group that are not among `names`; returns theirs. Raises `OSError`."""
    with Netlink() as host:
        others = [link for link in host.list_links() if link.group == group and link.name not in names]
        for link in others:
            _delete(host, link.ifindex, link.name)
    return [link.name for link in others]


def claimed_subnets(*, except_bridge: str = "") -> list[Subnet]:
    """The subnets of the host's addresses and routes, whether their links are up or not, but for those of one bridge."""
    with Netlink() as host:
        link = host.get_link(name=except_bridge) if except_bridge else None
        return _claims(host, except_index=link.ifindex if link is not None else 0)


def list_ports(names: Sequence[str]) -> list[str]:
    """Names of the links on these bridges, as far as they are there."""
    with Netlink() as host:
        links = host.list_links()
        bridges = {link.ifindex for link in links if link.name in set(names)}
        return [link.name for link in links if link.master in bridges]


def list_other_bridges(own: Sequence[str]) -> list[str]:
    """Names of the host's bridges that are not among `own`."""
    names = set(own)
    with Netlink() as host:
        return [link.name for link in host.list_links() if link.kind == "bridge" and link.name not in names]


def remove_ports(bridges: Sequence[str], names: set[str]) -> list[str]:
    """Delete those of `names` that are links on `bridges`; returns them. Slow (20 to 40 ms each, with the RTNL lock held)."""
    doomed = [name for name in list_ports(bridges) if name in names]
    if doomed:
        with Netlink() as host:
            for name in doomed:
                _delete(host, 0, name)
    return doomed


def _delete(host: Netlink, index: int, name: str) -> None:
    try:
        host.execute(messages.delete_link(index=index, name="" if index else name), subject=name)
    except OSError as error:
        if error.errno != errno.ENODEV:  # the link has gone by itself meanwhile
            raise


@contextmanager
def _choosing() -> Iterator[None]:
    """One engine at a time looks for free addresses and takes them.

    The lock is on a file that every host has, that need not be removed afterwards, and that is another file in another network namespace.
    """
    fd = os.open(f"/proc/sys/{_IP_FORWARD}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _claims(host: Netlink, *, except_index: int) -> list[Subnet]:
    return [
        _to_subnet(prefix)
        for prefix in (*host.list_addresses(), *host.list_routes())
        if prefix.link_index != except_index and prefix.family in {socket.AF_INET, socket.AF_INET6}
    ]


def _to_subnet(prefix: Prefix) -> Subnet:
    return ipaddress.ip_network((prefix.address, prefix.length), strict=False)


def _uplink_mtu(host: Netlink) -> int:
    """The MTU of the way out, where it is smaller than usual (a VPN, a cloud's overlay): larger packets would be lost there."""
    indices = {route.link_index for route in host.list_routes() if route.length == 0 and route.link_index}
    links = [host.get_link(index=index) for index in indices]
    return min([_STANDARD_MTU, *(link.mtu for link in links if link is not None and link.mtu >= 1280)])


def _ensure_neighbours(bridge: Bridge, sysctls: Sysctls) -> None:
    """Where the ports keep each other apart, what containers send to one another comes by the host, whose firewall knows their links.

    kernel: with `proxy_arp_pvlan` the host answers ARP for what is on the link that it was asked by; at random within `proxy_delay`.
    """
    comes_by_host = not bridge.has_icc and not bridge.is_internal
    sysctls.ensure(f"net/ipv4/conf/{bridge.name}/proxy_arp_pvlan", "1" if comes_by_host else "0", is_kept=False)
    if comes_by_host:
        sysctls.ensure(f"net/ipv4/neigh/{bridge.name}/proxy_delay", "0", is_kept=False)


def _mac_of(bridge: Bridge) -> str:
    """A MAC address that goes with the bridge's first address; without any, with its name."""
    address = next((segment.host_address for segment in bridge.segments if segment.host_address is not None), None)
    if address is not None:
        return mac_for(address)
    return (b"\x02\x42" + hashlib.sha256(bridge.name.encode()).digest()[:4]).hex(":")


def _ensure_addresses(host: Netlink, link: Link, bridge: Bridge, *, is_ours: bool) -> None:
    wanted = [
        Prefix(
            socket.AF_INET if segment.subnet.version == 4 else socket.AF_INET6,
            segment.host_address.packed,
            segment.subnet.prefixlen,
            link.ifindex,
        )
        for segment in bridge.segments
        if segment.host_address is not None
    ]
    present = [address for address in host.list_addresses() if address.link_index == link.ifindex]
    for address in present:
        if is_ours and address not in wanted and not _is_link_local(address):
            host.execute(messages.delete_address(address), subject=bridge.name)
    for address in wanted:
        if address not in present:
            text = str(ipaddress.ip_address(address.address))
            host.execute(messages.new_address(link_index=link.ifindex, address=text, prefix_length=address.length), subject=bridge.name)


def _segments_of(host: Netlink, link: Link) -> tuple[Segment, ...]:
    """The subnets of a link's addresses, in their order, but for those that it has by itself."""
    own = [each for each in host.list_addresses() if each.link_index == link.ifindex and not _is_link_local(each)]
    addresses = [(ipaddress.ip_address(each.address), _to_subnet(each)) for each in own if each.family in {socket.AF_INET, socket.AF_INET6}]
    return tuple(Segment(subnet=subnet, gateway=address, host_address=address) for address, subnet in addresses)


def _is_link_local(prefix: Prefix) -> bool:
    """Of those that the kernel gives a link by itself."""
    return prefix.family == socket.AF_INET6 and ipaddress.ip_address(prefix.address).is_link_local


def _ensure_forwarding(bridge: Bridge, sysctls: Sysctls) -> None:
    if bridge.is_internal:
        return
    sysctls.ensure(_IP_FORWARD, "1")
    if bridge.has_ipv6:
        _keep_router_advertisements(sysctls)
        sysctls.ensure(_IPV6_FORWARD, "1")


def _keep_router_advertisements(sysctls: Sysctls) -> None:
    """A host that forwards IPv6 stops to listen to routers, and so would lose its own way out, unless each link is told to go on."""
    try:
        names = os.listdir("/proc/sys/net/ipv6/conf")
    except FileNotFoundError:
        return
    for name in names:
        if name in ("all", "default", "lo"):
            continue
        path = f"net/ipv6/conf/{name}/accept_ra"
        try:
            with open(f"/proc/sys/{path}", encoding="ascii") as file:
                listens = file.read().strip() == "1"
            if listens:
                sysctls.ensure(path, "2")
        except FileNotFoundError:
            continue  # the link has gone
