"""rtnetlink on the wire: pure encoders and decoders, no sockets.

A request is a `Message` (type, flags, body); the socket adds the header with its sequence number. Attributes are
length-type-value, padded to four bytes; a length counts the header but not the padding (netlink(7)). Encoders take names and
numbers that the caller has checked: nothing here reads the host's state. A link is named by its index, or, where that is 0,
by its name.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

# linux/netlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x01, 0x04, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLMSGERR_ATTR_MSG = 1
_NLA_F_NESTED, _NLA_TYPE_MASK = 0x8000, 0x3FFF

# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
NAMES = {
    RTM_NEWLINK: "RTM_NEWLINK",
    RTM_DELLINK: "RTM_DELLINK",
    RTM_GETLINK: "RTM_GETLINK",
    RTM_NEWADDR: "RTM_NEWADDR",
    RTM_DELADDR: "RTM_DELADDR",
    RTM_GETADDR: "RTM_GETADDR",
    RTM_NEWROUTE: "RTM_NEWROUTE",
    RTM_GETROUTE: "RTM_GETROUTE",
}
_RTN_UNICAST, _RTN_LOCAL, _RT_SCOPE_LINK = 1, 2, 253
_RT_TABLE_MAIN, _RT_TABLE_LOCAL, _RTPROT_BOOT = 254, 255, 3
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 2, 3, 4, 5, 7
_RTEXT_FILTER_SKIP_STATS = 8

# linux/if_link.h, linux/if_addr.h, linux/veth.h, linux/if.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_NET_NS_PID, _IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_NET_NS_FD = 18, 19, 26, 27, 28
_IFLA_EXT_MASK, _IFLA_CARRIER = 29, 33
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_BRPORT_STATE, _IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED, _BR_STATE_FORWARDING = 1, 4, 33, 3
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1
_VETH_INFO_PEER = 1
_IFLA_VLAN_ID = 1
_IFLA_MACVLAN_MODE = 1
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IFLA_IPVLAN_MODE, _IFLA_IPVLAN_FLAGS = 1, 2
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_IFA_F_NODAD = 0x02
_IFF_UP = 0x1

_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NLATTR = struct.Struct("=HH")  # length, type
_IFINFOMSG = struct.Struct("=BxHiII")  # family, device type, index, flags, change mask
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst and src length, tos, table, protocol, scope, type, flags
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

Message = tuple[int, int, bytes]
"""A request without its header: (type, flags beyond NLM_F_REQUEST, body)."""


class Reply(NamedTuple):
    """One message from the kernel."""

    kind: int
    flags: int
    sequence: int
    body: bytes


class Link(NamedTuple):
    """What matters of a network device. `port_forwarding` is None unless the device is a bridge's port."""

    ifindex: int
    name: str
    kind: str
    mac: str
    mtu: int
    master: int
    is_up: bool
    has_carrier: bool
    port_forwarding: bool | None
    group: int = 0


class Prefix(NamedTuple):
    """A stretch of addresses that a device or a route claims; `gateway` only of routes."""

    family: int
    address: bytes
    length: int
    link_index: int
    gateway: bytes = b""


class Route(NamedTuple):
    """Where a packet goes: by which link, to which router ("" for none), and under which address of the host's one is sent from here.

    `is_local`: it is for this host.
    """

    link_index: int
    gateway: str
    source: str
    is_local: bool


def pack_address(text: str) -> tuple[int, bytes]:
    """(family, network-order bytes) of an IPv4 or IPv6 address. Raises OSError if it is none."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return family, socket.inet_pton(family, text)


# Requests.


def encode(message: Message, sequence: int, *, acknowledge: bool = False) -> bytes:
    """`message` with its header: what goes into send(2)."""
    kind, flags, body = message
    return _NLMSGHDR.pack(len(body) + 16, kind, NLM_F_REQUEST | flags | (NLM_F_ACK if acknowledge else 0), sequence, 0) + body


def new_veth(*, name: str, mtu: int, peer_name: str, peer_mac: str, peer_netns_pid: int = 0, peer_netns_fd: int = -1) -> Message:
    """A veth pair, both ends down; the peer is born in another namespace under its final name and address.

    The namespace is that of a process, or the one that a descriptor names.

    So the peer need not be moved or renamed: a move waits for a grace period with the RTNL lock held.
    """
    namespace = _number(_IFLA_NET_NS_PID, peer_netns_pid) if peer_netns_fd < 0 else _number(_IFLA_NET_NS_FD, peer_netns_fd)
    peer = _ifinfo() + _name(peer_name) + _mac(peer_mac) + _number(_IFLA_MTU, mtu) + namespace
    info = _info(b"veth", _attribute(_VETH_INFO_PEER, peer))
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _ifinfo() + _name(name) + _number(_IFLA_MTU, mtu) + info


def new_macvlan(*, name: str, parent: int, mode: str, mac: str = "", mtu: int = 0, netns_pid: int = 0, netns_fd: int = -1) -> Message:
    """A link, down, by which somebody in another namespace is on the wire of link `parent` with a MAC address of his own.

    `mode` is bridge, private, vepa or passthru. Without `mac` the kernel chooses one (passthru: the parent's, whatever is given); `mtu` 0
    is the parent's. The namespace is as of `new_veth`, and so is what is gained by being born in it.
    """
    data = _attribute(_IFLA_MACVLAN_MODE, _U32.pack(_MACVLAN_MODES[mode]))
    body = _born_of(name, parent, mtu, netns_pid, netns_fd) + (_mac(mac) if mac else b"") + _info(b"macvlan", data)
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body


def new_ipvlan(*, name: str, parent: int, mode: str, flag: str, mtu: int = 0, netns_pid: int = 0, netns_fd: int = -1) -> Message:
    """As `new_macvlan`, but under the parent's MAC address: packets are told apart by their IP addresses.

    `mode` is l2, l3 or l3s, `flag` bridge, private or vepa. All links of a parent have one mode and one flag: those of the youngest.
    """
    data = _attribute(_IFLA_IPVLAN_MODE, _U16.pack(_IPVLAN_MODES[mode])) + _attribute(_IFLA_IPVLAN_FLAGS, _U16.pack(_IPVLAN_FLAGS[flag]))
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _born_of(name, parent, mtu, netns_pid, netns_fd) + _info(b"ipvlan", data)


def new_vlan(*, name: str, parent: int, vlan: int, group: int = 0) -> Message:
    """A link, down, that is on VLAN number `vlan` (802.1Q) of the parent's wire."""
    body = _ifinfo() + _name(name) + _number(_IFLA_LINK, parent) + (_number(_IFLA_GROUP, group) if group else b"")
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body + _info(b"vlan", _attribute(_IFLA_VLAN_ID, _U16.pack(vlan)))


def new_dummy(*, name: str, mtu: int = 0, group: int = 0) -> Message:
    """A link, down, that leads nowhere: what links born of it have in common."""
    body = _ifinfo() + _name(name) + (_number(_IFLA_MTU, mtu) if mtu else b"") + (_number(_IFLA_GROUP, group) if group else b"")
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body + _info(b"dummy")


def new_bridge(*, name: str, mac: str, mtu: int, group: int = 0) -> Message:
    """A bridge, up. A fixed `mac`, or the bridge would take that of its lowest port and change it as containers come and go."""
    body = _ifinfo(flags=_IFF_UP, change=_IFF_UP) + _name(name) + _mac(mac) + _number(_IFLA_MTU, mtu)
    body += (_number(_IFLA_GROUP, group) if group else b"") + _info(b"bridge")
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body


def set_identity(*, index: int, name: str = "", mac: str = "") -> Message:
    """Give a link that is down another name, or MAC address, or both."""
    return RTM_NEWLINK, 0, _ifinfo(index=index) + _optional_name(name) + (_mac(mac) if mac else b"")


def set_link(*, index: int = 0, name: str = "", is_up: bool | None = None, master: int | None = None, mtu: int | None = None) -> Message:
    """Change what is given of an existing link; the kernel sets the master before it brings the link up."""
    body = _ifinfo(index=index) if is_up is None else _ifinfo(index=index, flags=_IFF_UP if is_up else 0, change=_IFF_UP)
    body += _optional_name(name)
    body += b"" if mtu is None else _number(_IFLA_MTU, mtu)
    body += b"" if master is None else _number(_IFLA_MASTER, master)
    return RTM_NEWLINK, 0, body


def set_no_link_local(*, name: str) -> Message:
    """Give the link no IPv6 link-local address when it comes up: no duplicate detection, no multicast joins for it."""
    mode = _nested(socket.AF_INET6, _attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((_IN6_ADDR_GEN_MODE_NONE,))))
    return RTM_NEWLINK, 0, _ifinfo() + _name(name) + _nested(_IFLA_AF_SPEC, mode)


def set_isolated(*, name: str) -> Message:
    """Keep a bridge's port from the other ports that are isolated, too; the bridge itself is still within its reach."""
    return _set_port(name, _attribute(_IFLA_BRPORT_ISOLATED, b"\1"))


def set_hairpin(*, name: str) -> Message:
    """Let frames that came in by a bridge's port go out by it again."""
    return _set_port(name, _attribute(_IFLA_BRPORT_MODE, b"\1"))


def delete_link(*, index: int = 0, name: str = "") -> Message:
    """Delete a link; a veth's peer goes with it."""
    return RTM_DELLINK, 0, _ifinfo(index=index) + _optional_name(name)


def delete_links(*, group: int) -> Message:
    """Delete all links of a group (which is not 0), with one grace period for all. kernel: ENODEV if there is none."""
    return RTM_DELLINK, 0, _ifinfo() + _number(_IFLA_GROUP, group)


def get_link(*, index: int = 0, name: str = "") -> Message:
    """Ask for one link. From Linux 6.8 on the kernel first carries out a change of carrier that is still pending."""
    return RTM_GETLINK, 0, _ifinfo(index=index) + _optional_name(name) + _number(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)


def dump_links(*, master: int = 0) -> Message:
    """Ask for all links, or those with this master (the kernel filters; the socket checks strictly)."""
    body = _ifinfo() + _number(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS) + (_number(_IFLA_MASTER, master) if master else b"")
    return RTM_GETLINK, NLM_F_DUMP, body


def new_address(*, link_index: int, address: str, prefix_length: int) -> Message:
    """Add an address and the route to its subnet. IPv6 without duplicate detection: it takes a second, and the address is known free."""
    family, packed = pack_address(address)
    body = _IFADDRMSG.pack(family, prefix_length, _IFA_F_NODAD if family == socket.AF_INET6 else 0, 0, link_index)
    body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    if family == socket.AF_INET and prefix_length < 31:
        host_bits = (1 << (32 - prefix_length)) - 1
        body += _attribute(_IFA_BROADCAST, (int.from_bytes(packed, "big") | host_bits).to_bytes(4, "big"))
    return RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body


def delete_address(prefix: Prefix) -> Message:
    """Take back what `new_address` added."""
    body = _IFADDRMSG.pack(prefix.family, prefix.length, 0, 0, prefix.link_index) + _attribute(_IFA_LOCAL, prefix.address)
    return RTM_DELADDR, 0, body


def new_default_route(*, link_index: int, gateway: str, family: int = 0, replaces: bool = False) -> Message:
    """The default route of the gateway's family, in place of the one that is there if it `replaces` it.

    With no gateway, "", everybody is taken to be on the link itself; `family` says of which IP version then.
    """
    packed = b""
    if gateway:
        family, packed = pack_address(gateway)
    # kernel: IPv6 has no scopes of routes, and ignores this.
    scope = 0 if gateway else _RT_SCOPE_LINK
    body = _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0)
    return (
        RTM_NEWROUTE,
        NLM_F_CREATE | (NLM_F_REPLACE if replaces else NLM_F_EXCL),
        body + (_attribute(_RTA_GATEWAY, packed) if gateway else b"") + _number(_RTA_OIF, link_index),
    )


def dump_addresses() -> Message:
    """Ask for every address of every link."""
    return RTM_GETADDR, NLM_F_DUMP, _IFADDRMSG.pack(0, 0, 0, 0, 0)


def dump_routes() -> Message:
    """Ask for every route of every table."""
    return RTM_GETROUTE, NLM_F_DUMP, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)


def get_route(*, destination: str, source: str = "", input_index: int = 0) -> Message:
    """Ask where a packet would go. One that comes in by a link, from a `source`, is judged as the kernel judges it, rp_filter included."""
    family, packed = pack_address(destination)
    body = _RTMSG.pack(family, len(packed) * 8, len(packed) * 8 if source else 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_DST, packed)
    body += _attribute(_RTA_SRC, pack_address(source)[1]) if source else b""
    return RTM_GETROUTE, 0, body + (_number(_RTA_IIF, input_index) if input_index else b"")


# Replies.


def iter_replies(data: bytes) -> Iterator[Reply]:
    """Split one datagram into messages. Raises ValueError if it is cut."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _port = _NLMSGHDR.unpack_from(data, offset)
        if length < 16 or offset + length > len(data):
            raise ValueError("netlink message is cut short")
        yield Reply(kind, flags, sequence, data[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def parse_error(reply: Reply) -> tuple[int, str]:
    """(errno or 0, the kernel's own explanation or "") of an NLMSG_ERROR: a failure, or an acknowledgement."""
    number = -int(_S32.unpack_from(reply.body)[0])
    if not reply.flags & NLM_F_ACK_TLVS:
        return number, ""
    request_length = 16 if reply.flags & NLM_F_CAPPED or not number else _U32.unpack_from(reply.body, 4)[0]
    explanation = parse_attributes(reply.body, 4 + ((request_length + 3) & ~3)).get(NLMSGERR_ATTR_MSG, b"")
    return number, explanation.rstrip(b"\0").decode("utf-8", "replace")


def parse_attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on, by type. Raises ValueError if one is cut."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = _NLATTR.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            raise ValueError("netlink attribute is cut short")
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def parse_link(body: bytes) -> Link:
    """The answer to `get_link` and `dump_links`."""
    _family, _type, index, flags, _change = _IFINFOMSG.unpack_from(body)
    found = parse_attributes(body, _IFINFOMSG.size)
    info = parse_attributes(found.get(_IFLA_LINKINFO, b""))
    forwarding = None
    if info.get(_IFLA_INFO_SLAVE_KIND) == b"bridge\0":
        port = parse_attributes(info.get(_IFLA_INFO_SLAVE_DATA, b""))
        forwarding = port.get(_IFLA_BRPORT_STATE) == bytes((_BR_STATE_FORWARDING,))
    return Link(
        ifindex=index,
        name=_text(found.get(_IFLA_IFNAME, b"")),
        kind=_text(info.get(_IFLA_INFO_KIND, b"")),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=_u32(found.get(_IFLA_MTU)),
        master=_u32(found.get(_IFLA_MASTER)),
        is_up=bool(flags & _IFF_UP),
        has_carrier=found.get(_IFLA_CARRIER) == b"\1",
        port_forwarding=forwarding,
        group=_u32(found.get(_IFLA_GROUP)),
    )


def parse_address(body: bytes) -> Prefix:
    """The answer to `dump_addresses`."""
    family, length, _flags, _scope, index = _IFADDRMSG.unpack_from(body)
    found = parse_attributes(body, _IFADDRMSG.size)
    return Prefix(family, found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b""), length, index)


def parse_route(body: bytes) -> Prefix | None:
    """The answer to `dump_routes`; None for a route that claims no addresses beyond this host's own (table local, multicast)."""
    family, length, _source, _tos, table, _protocol, _scope, kind, _flags = _RTMSG.unpack_from(body)
    if table == _RT_TABLE_LOCAL or kind != _RTN_UNICAST or family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    found = parse_attributes(body, _RTMSG.size)
    empty = bytes(16 if family == socket.AF_INET6 else 4)
    return Prefix(family, found.get(_RTA_DST, empty), length, _u32(found.get(_RTA_OIF)), found.get(_RTA_GATEWAY, b""))


def parse_route_answer(body: bytes) -> Route:
    """The answer to `get_route`."""
    family, *_, kind, _flags = _RTMSG.unpack_from(body)
    found = parse_attributes(body, _RTMSG.size)

    def address(attribute: int) -> str:
        packed = found.get(attribute)
        return socket.inet_ntop(family, packed) if packed else ""

    return Route(_u32(found.get(_RTA_OIF)), address(_RTA_GATEWAY), address(_RTA_PREFSRC), kind == _RTN_LOCAL)


def _born_of(name: str, parent: int, mtu: int, netns_pid: int, netns_fd: int) -> bytes:
    namespace = _number(_IFLA_NET_NS_PID, netns_pid) if netns_fd < 0 else _number(_IFLA_NET_NS_FD, netns_fd)
    return _ifinfo() + _name(name) + _number(_IFLA_LINK, parent) + (_number(_IFLA_MTU, mtu) if mtu else b"") + namespace


def _attribute(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    return _NLATTR.pack(size + 4, kind) + payload + _PADDING[size & 3]


def _nested(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | _NLA_F_NESTED, b"".join(attributes))


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, _U32.pack(value))


def _name(name: str) -> bytes:
    return _attribute(_IFLA_IFNAME, name.encode("ascii") + b"\0")


def _set_port(name: str, member: bytes) -> Message:
    port = _nested(_IFLA_LINKINFO, _attribute(_IFLA_INFO_SLAVE_KIND, b"bridge"), _nested(_IFLA_INFO_SLAVE_DATA, member))
    return RTM_NEWLINK, 0, _ifinfo() + _name(name) + port


def _optional_name(name: str) -> bytes:
    return _name(name) if name else b""


def _mac(mac: str) -> bytes:
    return _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))


def _info(kind: bytes, *data: bytes) -> bytes:
    return _nested(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, kind), _nested(_IFLA_INFO_DATA, *data))


def _ifinfo(*, index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFOMSG.pack(0, 0, index, flags, change)


def _u32(payload: bytes | None) -> int:
    return int(_U32.unpack(payload)[0]) if payload else 0


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode("utf-8", "surrogateescape")
