"""Networks of the drivers macvlan and ipvlan: containers on the wire of one of the host's interfaces, the network's parent.

As data, and on the host, where there is nothing of such a network but, at times, its parent: a VLAN of an interface, or a dummy for a
network that goes nowhere. What touches the host blocks. Source: moby daemon/libnetwork/drivers/macvlan, ipvlan.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from dataclasses import dataclass
from typing import Literal

from teul.linux.netlink import messages
from teul.linux.netlink.messages import Link
from teul.linux.netlink.socket import Netlink
from teul.network.bridge import Segment

Kind = Literal["macvlan", "ipvlan"]

MADE_KINDS = ("vlan", "dummy")
"""The kinds of links that an engine makes to be parents."""

_LONGEST_NAME = 15
_VLANS = range(1, 4095)
_DUMMY_PREFIXES: dict[Kind, str] = {"macvlan": "dm-", "ipvlan": "di-"}


class ParentUnusable(Exception):
    """The interface that a network asks for cannot be its parent; says why, in Docker's words where Docker has some."""


class ParentMissing(ParentUnusable):
    """It is not there and cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A network's wire. `mode` and `flag` are as `teul.linux.netlink.messages` has them, `mtu` 0 is the parent's.

    With `is_dummy` the parent is the engine's to make. Containers of an `is_internal` network have no way out. `parent_mac` is known of a
    wire as it stands on the host.
    """

    kind: Kind
    parent: str
    mode: str
    flag: str = ""
    mtu: int = 0
    segments: tuple[Segment, ...] = ()
    is_dummy: bool = False
    is_internal: bool = False
    parent_mac: str = ""

    @property
    def is_routed(self) -> bool:
        """Whether packets find their way by addresses alone (ipvlan's l3): the way out is the link itself, without a gateway."""
        return self.kind == "ipvlan" and self.mode in ("l3", "l3s")


def dummy_name(kind: Kind, network_id: str) -> str:
    """The parent of a network that has none given. docker: getDummyName."""
    return _DUMMY_PREFIXES[kind] + network_id[:12]


def ensure_parent(wire: Wire, *, group: int) -> Wire:
    """Make the parent if it is not there, and may be made: in `group` then. Idempotent.

    Raises ParentUnusable, `OSError`.
    """
    with Netlink() as host:
        link = _find(host, wire.parent)
        if link is None:
            link = _make_dummy(host, wire, group) if wire.is_dummy else _make_vlan(host, wire, group)
    if wire.mtu > link.mtu:
        raise ParentUnusable(f"invalid MTU number: {wire.mtu} (parent interface {wire.parent} has {link.mtu})")
    return dataclasses.replace(wire, parent_mac=link.mac)


def remove_parent(name: str, *, group: int) -> None:
    """Delete a parent if it is there and was made by an engine of the group; links that were born of it go, too. Raises `OSError`."""
    with Netlink() as host:
        link = _find(host, name)
        if link is not None and link.kind in MADE_KINDS and link.group == group:
            _delete(host, link)


def _find(host: Netlink, name: str) -> Link | None:
    if len(name) > _LONGEST_NAME or not name.isascii() or "\0" in name or not name:
        return None  # no link can be called that, and the kernel would complain of the question
    return host.get_link(name=name)


def _make_dummy(host: Netlink, wire: Wire, group: int) -> Link:
    host.execute(messages.new_dummy(name=wire.parent, mtu=wire.mtu, group=group), subject=wire.parent)
    return _enable(host, wire)


def _make_vlan(host: Netlink, wire: Wire, group: int) -> Link:
    name = wire.parent
    if "." not in name:
        raise ParentMissing(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    parts = name.split(".")
    if len(parts) != 2:
        raise ParentMissing(f"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}")
    if not re.fullmatch(r"[+-]?[0-9]+", parts[1], re.ASCII):
        raise ParentMissing(f"unable to parse a valid vlan id from: {parts[1]} (ex. eth0.10 for vlan 10)")
    vlan = int(parts[1])
    below = _find(host, parts[0])
    if below is None:
        raise ParentMissing(f"-o parent interface was not found on the host: {parts[0]}")
    if vlan not in _VLANS:
        raise ParentMissing(f"vlan id must be between 1-4094, received: {vlan}")
    try:
        host.execute(messages.new_vlan(name=name, parent=below.ifindex, vlan=vlan, group=group), subject=name)
    except OSError as error:
        raise OSError(error.errno, f"failed to create {name} vlan link: {error.strerror}") from error
    return _enable(host, wire)


def _enable(host: Netlink, wire: Wire) -> Link:
    """Bring up a link that was just made, or delete it."""
    try:
        host.execute(messages.set_link(name=wire.parent, is_up=True), subject=wire.parent)
        link = host.get_link(name=wire.parent)
        if link is None:
            raise OSError(errno.ENODEV, "it has just been deleted")
    except OSError as error:
        made = host.get_link(name=wire.parent)
        if made is not None:
            _delete(host, made)
        raise OSError(error.errno, f"failed to enable {wire.parent} the {wire.kind} parent link: {error.strerror}") from error
    return link


def _delete(host: Netlink, link: Link) -> None:
    try:
        host.execute(messages.delete_link(index=link.ifindex), subject=link.name)
    except OSError as error:
        if error.errno != errno.ENODEV:  # it has gone by itself meanwhile
            raise
