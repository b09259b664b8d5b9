"""The kernel's table of connections: entries of one protocol and destination port, forgotten. stdlib only.

kernel: address translation is decided with the first packet of a connection. UDP has none, so who goes on sending keeps an entry alive that
was made when nobody, or somebody else, was at the other end.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator

from teul.linux.netlink import messages

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h
_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NFNL_SUBSYS_CTNETLINK = 1
_IPCTNL_MSG_CT_GET, _IPCTNL_MSG_CT_DELETE = 1, 2
_CTA_TUPLE_ORIG, _CTA_ID, _CTA_FILTER = 1, 12, 25
_CTA_TUPLE_PROTO, _CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 2, 1, 3
_CTA_FILTER_ORIG_FLAGS, _CTA_FILTER_REPLY_FLAGS = 1, 2
_FILTER_PROTO_NUM, _FILTER_PROTO_DST_PORT = 1 << 3, 1 << 5  # net/netfilter/nf_internals.h
_NLA_F_NESTED = 0x8000

_NFGENMSG = struct.Struct("!BBH")  # family, version, resource
_NLATTR = struct.Struct("=HH")
_RECEIVE_BYTES = 64 * 1024
_FEW_PORTS = 8


def forget(protocol: int, ports: Collection[int]) -> int:
    """Forget the connections of this protocol that were made to these ports, of both versions of IP; returns how many.

    In the caller's network namespace. Blocks. Raises `OSError`.
    """
    forgotten = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            netlink.setsockopt(_SOL_NETLINK, option, 1)
        # One look for each port at all connections, or, where they are many, one look in which all of the protocol are told.
        for port in sorted(ports) if len(ports) <= _FEW_PORTS else [None]:
            for family in (socket.AF_INET, socket.AF_INET6):
                netlink.send(messages.encode(list_request(family, protocol, port), 1, acknowledge=True))
                for body in [body for body in _bodies(netlink, 1) if destination_port(body) in ports]:
                    netlink.send(messages.encode(delete_request(family, body), 2, acknowledge=True))
                    forgotten += sum(1 for _ in _bodies(netlink, 2, tolerated=errno.ENOENT)) + 1  # it may have ended by itself
    return forgotten


def list_request(family: int, protocol: int, port: int | None) -> messages.Message:
    """Ask for the connections to a port, or to all; the kernel looks for them (from 5.8 on)."""
    proto = _attribute(_CTA_PROTO_NUM, bytes((protocol,)))
    proto += _attribute(_CTA_PROTO_DST_PORT, port.to_bytes(2, "big")) if port is not None else b""
    flags = struct.pack("=I", _FILTER_PROTO_NUM | (_FILTER_PROTO_DST_PORT if port is not None else 0))
    body = _NFGENMSG.pack(family, 0, 0)
    body += _nested(_CTA_TUPLE_ORIG, _nested(_CTA_TUPLE_PROTO, proto))
    body += _nested(_CTA_FILTER, _attribute(_CTA_FILTER_ORIG_FLAGS, flags) + _attribute(_CTA_FILTER_REPLY_FLAGS, bytes(4)))
    return _NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_GET, messages.NLM_F_DUMP, body


def destination_port(body: bytes) -> int:
    """The port that the first packet of a connection was sent to."""
    original = messages.parse_attributes(messages.parse_attributes(body, _NFGENMSG.size).get(_CTA_TUPLE_ORIG, b""))
    proto = messages.parse_attributes(original.get(_CTA_TUPLE_PROTO, b""))
    return int.from_bytes(proto.get(_CTA_PROTO_DST_PORT, b""), "big")


def delete_request(family: int, body: bytes) -> messages.Message:
    """Delete the connection that an answer to `list_request` describes, and no other that has come to look the same."""
    found = messages.parse_attributes(body, _NFGENMSG.size)
    tuple_ = _nested(_CTA_TUPLE_ORIG, found[_CTA_TUPLE_ORIG]) + _attribute(_CTA_ID, found[_CTA_ID])
    return _NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_DELETE, 0, _NFGENMSG.pack(family, 0, 0) + tuple_


def _bodies(netlink: socket.socket, sequence: int, *, tolerated: int = 0) -> Iterator[bytes]:
    """What comes as the answer to a request, to its end. Raises `OSError`, but for the `tolerated` number."""
    while True:
        for reply in messages.iter_replies(netlink.recv(_RECEIVE_BYTES)):
            if reply.sequence != sequence:
                continue
            if reply.kind not in {messages.NLMSG_DONE, messages.NLMSG_ERROR}:
                yield reply.body
                continue
            number, explanation = messages.parse_error(reply)
            if number not in {0, tolerated}:
                raise OSError(number, f"conntrack: {explanation or os.strerror(number)}")
            return


def _attribute(kind: int, payload: bytes) -> bytes:
    return _NLATTR.pack(len(payload) + 4, kind) + payload + b"\0" * (-len(payload) & 3)


def _nested(kind: int, payload: bytes) -> bytes:
    return _attribute(kind | _NLA_F_NESTED, payload)
