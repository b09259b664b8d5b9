"""The bridge device of a network, and the choice of its subnet against what the host already uses. Everything here blocks."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from teul.linux.netlink import messages
from teul.linux.netlink.messages import Prefix
from teul.linux.netlink.socket import Netlink
from teul.network.endpoints import mac_for
from teul.network.ipam import Subnet, choose_subnet, overlaps

_STANDARD_MTU = 1500
_IP_FORWARD = "net/ipv4/ip_forward"


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge as it stands on the host; `gateway`, its own address, is the subnet's first."""

    name: str
    subnet: Subnet
    mtu: int

    @property
    def gateway(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return gateway_of(self.subnet)


def gateway_of(subnet: Subnet) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that the host takes in a subnet."""
    return subnet.network_address + 1


def ensure_bridge(name: str, pools: Sequence[Subnet], *, recorded: Subnet | None, is_in_use: bool) -> Bridge:
    """Make bridge `name`, or take over the one that is there, and see to it that it can forward. Idempotent.

    The bridge keeps the `recorded` subnet unless something else on the host has taken those addresses and no container holds any of them
    (`is_in_use`); then, and the first time, it takes the first pool that is free. Two engines that choose at once do not choose the
    same pool. Raises `OSError`, or NoFreeSubnet.
    """
    with _choosing(), Netlink() as host:
        existing = host.get_link(name=name)
        if existing is not None and existing.kind != "bridge":
            raise OSError(errno.EEXIST, f"network device `{name}` exists and is not a bridge")
        claimed = _claimed_subnets(host, except_index=existing.ifindex if existing else 0)
        subnet = recorded
        if subnet is None or (not is_in_use and overlaps(subnet, claimed)):
            subnet = choose_subnet(pools, claimed)
        bridge = Bridge(name, subnet, _uplink_mtu(host))
        if existing is None:
            host.execute(messages.new_bridge(name=name, mac=mac_for(bridge.gateway), mtu=bridge.mtu), subject=name)
            existing = host.get_link(name=name)
            assert existing is not None
        elif not existing.is_up or existing.mtu != bridge.mtu:
            host.execute(messages.set_link(index=existing.ifindex, is_up=True, mtu=bridge.mtu), subject=name)
        _ensure_address(host, existing.ifindex, bridge)
    # A container could reach the host by the bridge's link-local address, past rules that were written for IPv4.
    _ensure_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0" if subnet.version == 6 else "1")
    _ensure_sysctl(_IP_FORWARD, "1")
    return bridge


def remove_bridge(name: str) -> None:
    """Delete the bridge if it is there; its ports stay, on no bridge. Raises `OSError`."""
    with Netlink() as host:
        link = host.get_link(name=name)
        if link is None or link.kind != "bridge":
            return
        _delete(host, link.ifindex, name)


def list_ports(name: str) -> list[str]:
    """Names of the links on bridge `name`; none if there is no such bridge."""
    with Netlink() as host:
        bridge = host.get_link(name=name)
        return [] if bridge is None else [link.name for link in host.list_links(master=bridge.ifindex)]


def list_other_bridges(own: Sequence[str]) -> list[str]:
    """Names of the host's bridges that are not among `own`."""
    with Netlink() as host:
        return [link.name for link in host.list_links() if link.kind == "bridge" and link.name not in own]


def remove_ports(bridge: str, names: set[str]) -> list[str]:
    """Delete those of `names` that are links on `bridge`; returns them. Slow (20 to 40 ms each, with the RTNL lock held)."""
    doomed = [name for name in list_ports(bridge) if name in names]
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


def _claimed_subnets(host: Netlink, *, except_index: int) -> list[Subnet]:
    """The subnets of the host's addresses and routes, whether their links are up or not."""
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


def _ensure_address(host: Netlink, index: int, bridge: Bridge) -> None:
    ours = Prefix(socket.AF_INET if bridge.subnet.version == 4 else socket.AF_INET6, bridge.gateway.packed, bridge.subnet.prefixlen, index)
    present = [address for address in host.list_addresses() if address.link_index == index and address.family == ours.family]
    for address in present:
        if address != ours:
            host.execute(messages.delete_address(address), subject=bridge.name)
    if ours not in present:
        request = messages.new_address(link_index=index, address=str(bridge.gateway), prefix_length=ours.length)
        host.execute(request, subject=bridge.name)


def _ensure_sysctl(name: str, value: str) -> None:
    """Write only what differs: /proc/sys may be read-only where everything is set already."""
    path = f"/proc/sys/{name}"
    try:
        with open(path, encoding="ascii") as file:
            if file.read().strip() == value:
                return
    except FileNotFoundError:
        if name.startswith("net/ipv6/"):
            return  # a kernel without IPv6
        raise
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
