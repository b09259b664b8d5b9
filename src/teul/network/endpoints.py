"""A container's end of a network, worked out as data: names, MAC address and the plan that `teul.linux.netlink.links` carries out."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence

from teul.linux.netlink.links import Plan
from teul.network.ipam import Address

_GENERATIONS = "0123456789abcdefghijklmnopqrstuvwxyz"
GENERATIONS = len(_GENERATIONS)
"""How many names a container's links may have."""


def host_interface_name(container_id: str, generation: int) -> str:
    """The host's end of the link: `veth`, the beginning of the id, and a character that differs from one start to the next.

    So a container that restarts need not wait until the kernel has taken its old link down, and a link tells whose it is.
    """
    return host_interface_prefix(container_id) + _GENERATIONS[generation % len(_GENERATIONS)]


def host_interface_prefix(container_id: str) -> str:
    """What the names of all links of a container begin with."""
    return f"veth{container_id[:7]}"


def endpoint_id(network_id: str, container_id: str) -> str:
    """64 hex digits that name this container's attachment to this network, the same at every start."""
    return hashlib.sha256(f"{network_id}/{container_id}".encode()).hexdigest()


def mac_for(address: Address) -> str:
    """A locally administered MAC address that goes with an IP address: 02:42 and the IPv4 address, or an IPv6 address's last four bytes.

    docker: as up to version 27. A neighbour that remembers the MAC address of the IP address's last owner is right about the new owner,
    too, so nobody needs to be told by a gratuitous ARP (which Docker 28, with its random MAC addresses, sends). It is unique on a bridge.
    """
    return (b"\x02\x42" + address.packed[-4:]).hex(":")


def mac_for_endpoint(endpoint_id: str) -> str:
    """A locally administered MAC address for an endpoint without an IP address, the same at every start."""
    return (b"\x02\x42" + bytes.fromhex(endpoint_id)[:4]).hex(":")


def parse_mac(text: str) -> str | None:
    """A client's MAC address in our spelling, or None if it is not one a network card can have (six bytes, not a group's)."""
    parts = text.replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(part) == 2 for part in parts):
        return None
    try:
        packed = bytes.fromhex("".join(parts))
    except ValueError:
        return None
    return None if packed[0] & 1 or not any(packed) else packed.hex(":")


def make_plan(
    *,
    host_name: str,
    bridge: str,
    mac: str,
    mtu: int,
    container_name: str,
    addresses: Sequence[str],
    gateway: str | None,
    gateway6: str | None,
    isolated: bool = False,
) -> Plan:
    """The network plan of `teul.linux.netlink.links`. Raises ValueError for what is no address: nothing unchecked reaches the kernel."""
    for address in addresses:
        ipaddress.ip_interface(address)
    return {
        "host_name": host_name,
        "bridge": bridge,
        "mac": mac,
        "mtu": mtu,
        "container_name": container_name,
        "addresses": list(addresses),
        "gateway": gateway,
        "gateway6": gateway6,
        "isolated": isolated,
        "hairpin": False,
    }
