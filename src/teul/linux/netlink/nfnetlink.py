"""nftables without a library: the one table that leads a container's DNS queries to where the engine listens, as netlink messages.

`linux/nftables` applies what is written in nft's language, which loads libnftables: some ten milliseconds and a megabyte, too much for the
road of a start. What is needed there never changes but for two port numbers, and is written down here. stdlib only.

    table ip teul_dns {
        chain output {
            type nat hook output priority -100;
            ip daddr ADDRESS udp dport 53 dnat to ADDRESS:PORT
            ip daddr ADDRESS tcp dport 53 dnat to ADDRESS:PORT
        }
    }

No rule for the way back: the kernel gives the answers of a connection that was led somewhere their source back by itself. (Docker has one
in `postrouting`, for an answer that comes when the connection is forgotten, after half a minute; ours come much sooner, or never.)
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from teul.linux.netlink import messages

DNS_PORT = 53
TABLE = "teul_dns"

# linux/netlink.h, linux/netfilter/nfnetlink.h
_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NFNL_MSG_BATCH_BEGIN, _NFNL_MSG_BATCH_END = 0x10, 0x11
_NFNL_SUBSYS_NFTABLES = 10
_NLA_F_NESTED = 0x8000
_NLM_F_APPEND = 0x800

# linux/netfilter.h, linux/netfilter/nf_tables.h
_NF_INET_LOCAL_OUT = 3
_NFT_MSG_NEWTABLE, _NFT_MSG_DELTABLE, _NFT_MSG_NEWCHAIN, _NFT_MSG_NEWRULE = 0, 2, 3, 6
_NFTA_TABLE_NAME = 1
_NFTA_CHAIN_TABLE, _NFTA_CHAIN_NAME, _NFTA_CHAIN_HOOK, _NFTA_CHAIN_TYPE = 1, 3, 4, 7
_NFTA_HOOK_HOOKNUM, _NFTA_HOOK_PRIORITY = 1, 2
_NFTA_RULE_TABLE, _NFTA_RULE_CHAIN, _NFTA_RULE_EXPRESSIONS = 1, 2, 4
_NFTA_LIST_ELEM, _NFTA_EXPR_NAME, _NFTA_EXPR_DATA, _NFTA_DATA_VALUE = 1, 1, 2, 1
_NFTA_META_DREG, _NFTA_META_KEY, _NFT_META_L4PROTO = 1, 2, 16
_NFTA_CMP_SREG, _NFTA_CMP_OP, _NFTA_CMP_DATA, _NFT_CMP_EQ = 1, 2, 3, 0
_NFTA_PAYLOAD_DREG, _NFTA_PAYLOAD_BASE, _NFTA_PAYLOAD_OFFSET, _NFTA_PAYLOAD_LEN = 1, 2, 3, 4
_NFT_PAYLOAD_NETWORK_HEADER, _NFT_PAYLOAD_TRANSPORT_HEADER = 1, 2
_NFTA_IMMEDIATE_DREG, _NFTA_IMMEDIATE_DATA = 1, 2
_NFTA_NAT_TYPE, _NFTA_NAT_FAMILY, _NFTA_NAT_REG_ADDR_MIN, _NFTA_NAT_REG_PROTO_MIN, _NFT_NAT_DNAT = 1, 2, 3, 5, 1
_NFT_REG_1, _NFT_REG_2 = 1, 2
_NAT_PRIORITY = -100  # linux/netfilter_ipv4.h, NF_IP_PRI_NAT_DST

_DESTINATION_ADDRESS, _DESTINATION_PORT = (16, 4), (2, 2)  # offset and length in the headers of IPv4, and of UDP and TCP

_NFGENMSG = struct.Struct("!BBH")  # family, version, resource
_NLATTR = struct.Struct("=HH")
_CHAIN = b"output\0"


def lead_queries(address: str, *, udp_port: int, tcp_port: int) -> None:
    """Lead what programs of the caller's network namespace send to port 53 of `address`, an IPv4 address, to these ports of it.

    One transaction. It replaces the table if there is one; that takes ten milliseconds longer, since the kernel waits until nobody uses the
    old one. Blocking. Raises `OSError`; then the table is as it was. Needs CAP_NET_ADMIN over the namespace.
    """
    try:
        _carry_out(render_batch(address, udp_port=udp_port, tcp_port=tcp_port, replace=False))
    except FileExistsError:
        _carry_out(render_batch(address, udp_port=udp_port, tcp_port=tcp_port, replace=True))


def render_batch(address: str, *, udp_port: int, tcp_port: int, replace: bool) -> list[messages.Message]:
    """The messages that make the table, from the beginning of the batch to its end; EEXIST if there is one, unless they `replace` it."""
    packed = socket.inet_aton(address)
    table = _attribute(_NFTA_TABLE_NAME, TABLE.encode() + b"\0")
    hook = _number(_NFTA_HOOK_HOOKNUM, _NF_INET_LOCAL_OUT) + _number(_NFTA_HOOK_PRIORITY, _NAT_PRIORITY & 0xFFFFFFFF)
    chain = (
        _attribute(_NFTA_CHAIN_TABLE, TABLE.encode() + b"\0")
        + _attribute(_NFTA_CHAIN_NAME, _CHAIN)
        + _nested(_NFTA_CHAIN_HOOK, hook)
        + _attribute(_NFTA_CHAIN_TYPE, b"nat\0")
    )
    create, append = messages.NLM_F_CREATE, messages.NLM_F_CREATE | _NLM_F_APPEND
    return [
        (_NFNL_MSG_BATCH_BEGIN, 0, _NFGENMSG.pack(socket.AF_UNSPEC, 0, _NFNL_SUBSYS_NFTABLES)),
        *([_message(_NFT_MSG_DELTABLE, 0, table)] if replace else []),
        _message(_NFT_MSG_NEWTABLE, create | messages.NLM_F_EXCL, table),
        _message(_NFT_MSG_NEWCHAIN, create, chain),
        _message(_NFT_MSG_NEWRULE, append, _rule(packed, socket.IPPROTO_UDP, udp_port)),
        _message(_NFT_MSG_NEWRULE, append, _rule(packed, socket.IPPROTO_TCP, tcp_port)),
        (_NFNL_MSG_BATCH_END, 0, _NFGENMSG.pack(socket.AF_UNSPEC, 0, _NFNL_SUBSYS_NFTABLES)),
    ]


def _carry_out(batch: list[messages.Message]) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            netlink.setsockopt(_SOL_NETLINK, option, 1)
        last = len(batch) - 2  # the batch's end is never acknowledged
        netlink.send(b"".join(messages.encode(message, sequence, acknowledge=sequence == last) for sequence, message in enumerate(batch)))
        failure: OSError | None = None
        while True:
            for reply in messages.iter_replies(netlink.recv(65536)):
                number, explanation = messages.parse_error(reply)
                if number and failure is None:
                    failure = _os_error(number, explanation)
                # A failure of the whole is told as its beginning's: may not, or could not be carried out.
                if reply.sequence == last or (number and reply.sequence == 0):
                    if failure is not None:
                        raise failure
                    return


def _rule(address: bytes, protocol: int, port: int) -> bytes:
    expressions = (
        _load_payload(_NFT_PAYLOAD_NETWORK_HEADER, _DESTINATION_ADDRESS),
        _compare(address),
        _expression(b"meta", _number(_NFTA_META_DREG, _NFT_REG_1), _number(_NFTA_META_KEY, _NFT_META_L4PROTO)),
        _compare(bytes((protocol,))),
        _load_payload(_NFT_PAYLOAD_TRANSPORT_HEADER, _DESTINATION_PORT),
        _compare(DNS_PORT.to_bytes(2, "big")),
        _load(_NFT_REG_1, address),
        _load(_NFT_REG_2, port.to_bytes(2, "big")),
        _expression(
            b"nat",
            _number(_NFTA_NAT_TYPE, _NFT_NAT_DNAT),
            _number(_NFTA_NAT_FAMILY, socket.AF_INET),
            _number(_NFTA_NAT_REG_ADDR_MIN, _NFT_REG_1),
            _number(_NFTA_NAT_REG_PROTO_MIN, _NFT_REG_2),
        ),
    )
    return (
        _attribute(_NFTA_RULE_TABLE, TABLE.encode() + b"\0")
        + _attribute(_NFTA_RULE_CHAIN, _CHAIN)
        + _nested(_NFTA_RULE_EXPRESSIONS, *expressions)
    )


def _load_payload(base: int, place: tuple[int, int]) -> bytes:
    offset, length = place
    return _expression(
        b"payload",
        _number(_NFTA_PAYLOAD_DREG, _NFT_REG_1),
        _number(_NFTA_PAYLOAD_BASE, base),
        _number(_NFTA_PAYLOAD_OFFSET, offset),
        _number(_NFTA_PAYLOAD_LEN, length),
    )


def _compare(value: bytes) -> bytes:
    data = _nested(_NFTA_CMP_DATA, _attribute(_NFTA_DATA_VALUE, value))
    return _expression(b"cmp", _number(_NFTA_CMP_SREG, _NFT_REG_1), _number(_NFTA_CMP_OP, _NFT_CMP_EQ), data)


def _load(register: int, value: bytes) -> bytes:
    data = _nested(_NFTA_IMMEDIATE_DATA, _attribute(_NFTA_DATA_VALUE, value))
    return _expression(b"immediate", _number(_NFTA_IMMEDIATE_DREG, register), data)


def _expression(name: bytes, *data: bytes) -> bytes:
    return _nested(_NFTA_LIST_ELEM, _attribute(_NFTA_EXPR_NAME, name + b"\0"), _nested(_NFTA_EXPR_DATA, *data))


def _message(kind: int, flags: int, body: bytes) -> messages.Message:
    return _NFNL_SUBSYS_NFTABLES << 8 | kind, flags, _NFGENMSG.pack(socket.AF_INET, 0, 0) + body


def _attribute(kind: int, payload: bytes) -> bytes:
    return _NLATTR.pack(len(payload) + 4, kind) + payload + b"\0" * (-len(payload) & 3)


def _nested(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | _NLA_F_NESTED, b"".join(attributes))


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, value.to_bytes(4, "big"))


def _os_error(number: int, explanation: str) -> OSError:
    hint = " (has the kernel nf_tables, nft_chain_nat and nft_nat?)" if number in {errno.ENOENT, errno.EOPNOTSUPP} else ""
    return OSError(number, f"nftables, table {TABLE}: {explanation or os.strerror(number)}{hint}")
