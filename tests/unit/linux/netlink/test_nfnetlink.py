"""The table for DNS queries on the wire."""

from __future__ import annotations

from teul.linux.netlink import nfnetlink
from teul.linux.netlink.messages import NLM_F_CREATE, NLM_F_EXCL, encode, iter_replies, parse_attributes

NEW_TABLE, DELETE_TABLE, NEW_CHAIN, NEW_RULE = 0xA00, 0xA02, 0xA03, 0xA06
APPEND = 0x800


def _batch(*, replace: bool) -> list[tuple[int, int, bytes]]:
    return nfnetlink.render_batch("127.0.0.11", udp_port=0x1234, tcp_port=0x5678, replace=replace)


def test_a_new_table_is_not_to_be_there_yet() -> None:
    """Then nothing is deleted, for which the kernel would wait ten milliseconds."""
    assert [(kind, flags) for kind, flags, _body in _batch(replace=False)] == [
        (0x10, 0),
        (NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL),
        (NEW_CHAIN, NLM_F_CREATE),
        (NEW_RULE, NLM_F_CREATE | APPEND),
        (NEW_RULE, NLM_F_CREATE | APPEND),
        (0x11, 0),
    ]


def test_a_table_that_is_there_goes_in_the_same_transaction() -> None:
    assert [kind for kind, _flags, _body in _batch(replace=True)][1:3] == [DELETE_TABLE, NEW_TABLE]
    assert [message for message in _batch(replace=True) if message[0] != DELETE_TABLE] == _batch(replace=False)


def test_every_message_is_whole_and_names_the_table() -> None:
    """Each is as long as its header says, and its attributes fill it."""
    whole = b"".join(encode(message, number) for number, message in enumerate(_batch(replace=True)))
    replies = list(iter_replies(whole))
    assert [reply.body for reply in replies] == [body for _kind, _flags, body in _batch(replace=True)]
    for reply in replies[1:-1]:
        assert reply.body[:4] == b"\2\0\0\0"  # IPv4
        assert parse_attributes(reply.body, 4)[1] == b"teul_dns\0"


def test_each_rule_has_its_own_protocol_and_port() -> None:
    """Both compare the address and port 53 first, then load where the query goes."""
    udp, tcp = (body for kind, _flags, body in _batch(replace=False) if kind == NEW_RULE)
    for body, protocol, port in ((udp, b"\x11", b"\x12\x34"), (tcp, b"\x06", b"\x56\x78")):
        expressions = parse_attributes(body, 4)[4]
        values = [b"\x7f\0\0\x0b", protocol, b"\0\x35", b"\x7f\0\0\x0b", port]
        places = [expressions.find(_value(value)) for value in values]
        assert -1 not in places
        assert places[0] < places[1] < places[2]
        assert expressions.endswith(b"\0\0\0\2")  # the register of the port: the last attribute of the last expression
        assert expressions.count(b"nat\0") == 1


def _value(value: bytes) -> bytes:
    """NFTA_DATA_VALUE, padded."""
    return (len(value) + 4).to_bytes(2, "little") + b"\1\0" + value + bytes(-len(value) & 3)
