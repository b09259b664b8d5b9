"""rtnetlink bytes: what we send is what the kernel's headers say, and what it answered once is understood for ever."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.linux.netlink import messages
from teul.linux.netlink.messages import Link, Message, Prefix, Route

# Each was accepted by a kernel (tests/kernel/test_netlink.py does what they ask); x86-64, little-endian.
GOLDEN: list[tuple[str, Message, str]] = [
    (
        "veth",
        messages.new_veth(name="vethabc1", mtu=1400, peer_name="eth0", peer_mac="02:42:ac:11:00:02", peer_netns_pid=4242),
        (
            "84000000100001060700000000000000000000000000000000000000000000000d000300766574686162633100000000080004007805000"
            "04c0012800800010076657468400002803c000100000000000000000000000000000000000900030065746830000000000a0001000242ac"
            "110002000008000400780500000800130092100000"
        ),
    ),
    (
        "bridge",
        messages.new_bridge(name="teul0", mac="02:42:ac:11:00:01", mtu=1500),
        (
            "54000000100001060700000000000000000000000000000001000000010000000a0003007465756c300000000a0001000242ac1100010000"
            "08000400dc050000140012800a000100627269646765000004000280"
        ),
    ),
    (
        "set link",
        messages.set_link(name="vethabc1", is_up=True, master=5),
        "38000000100001000700000000000000000000000000000001000000010000000d00030076657468616263310000000008000a0005000000",
    ),
    (
        "no link-local address",
        messages.set_no_link_local(name="vethabc1"),
        "40000000100001000700000000000000000000000000000000000000000000000d00030076657468616263310000000010001a800c000a800500080001000000",
    ),
    (
        "IPv4 address",
        messages.new_address(link_index=3, address="172.17.0.2", prefix_length=16),
        "30000000140001050700000000000000021000000300000008000200ac11000208000100ac11000208000400ac11ffff",
    ),
    (
        "IPv6 address",
        messages.new_address(link_index=3, address="fd00::2", prefix_length=64),
        "400000001400010507000000000000000a4002000300000014000200fd00000000000000000000000000000214000100fd000000000000000000000000000002",
    ),
    (
        "default route",
        messages.new_default_route(link_index=3, gateway="172.17.0.1"),
        "2c00000018000106070000000000000002000000fe0300010000000008000500ac1100010800040003000000",
    ),
    (
        "macvlan",
        messages.new_macvlan(name="eth0", parent=4, mode="bridge", mac="02:42:c0:00:02:02", mtu=1400, netns_pid=4242),
        (
            "6c000000100001060700000000000000000000000000000000000000000000000900030065746830000000000800050004000000080004"
            "007805000008001300921000000a0001000242c000020200001c0012800b0001006d6163766c616e000c0002800800010004000000"
        ),
    ),
    (
        "passthru, without a choice",
        messages.new_macvlan(name="eth0", parent=4, mode="passthru", netns_fd=9),
        (
            "5800000010000106070000000000000000000000000000000000000000000000090003006574683000000000080005000400000008001c"
            "00090000001c0012800b0001006d6163766c616e000c0002800800010008000000"
        ),
    ),
    (
        "ipvlan",
        messages.new_ipvlan(name="eth0", parent=4, mode="l3s", flag="private", netns_pid=4242),
        (
            "60000000100001060700000000000000000000000000000000000000000000000900030065746830000000000800050004000000080013"
            "0092100000240012800a0001006970766c616e00001400028006000100020000000600020001000000"
        ),
    ),
    (
        "vlan",
        messages.new_vlan(name="eth0.50", parent=4, vlan=50, group=0x7E000001),
        (
            "54000000100001060700000000000000000000000000000000000000000000000c000300657468302e353000080005000400000008001b"
            "000100007e1800128008000100766c616e0c0002800600010032000000"
        ),
    ),
    (
        "dummy",
        messages.new_dummy(name="dm-0123456789ab", group=0x7E000001),
        (
            "500000001000010607000000000000000000000000000000000000000000000014000300646d2d3031323334353637383961620008001b"
            "000100007e140012800900010064756d6d7900000004000280"
        ),
    ),
    (
        "another name",
        messages.set_identity(index=7, name="eth0", mac="02:42:c0:00:02:02"),
        "38000000100001000700000000000000000000000700000000000000000000000900030065746830000000000a0001000242c00002020000",
    ),
    (
        "default route of a link",
        messages.new_default_route(link_index=3, gateway="", family=socket.AF_INET),
        "2400000018000106070000000000000002000000fe03fd01000000000800040003000000",
    ),
    (
        "where a packet that has come in goes",
        messages.get_route(destination="192.0.2.1", source="172.17.0.2", input_index=3),
        "340000001a000100070000000000000002202000000000000000000008000100c000020108000200ac1100020800030003000000",
    ),
    (
        "delete link",
        messages.delete_link(name="vethabc1"),
        "30000000110001000700000000000000000000000000000000000000000000000d000300766574686162633100000000",
    ),
    (
        "dump links",
        messages.dump_links(master=5),
        "300000001200010307000000000000000000000000000000000000000000000008001d000800000008000a0005000000",
    ),
]


@pytest.mark.parametrize(("message", "expected"), [case[1:] for case in GOLDEN], ids=[case[0] for case in GOLDEN])
def test_requests_are_these_bytes(message: Message, expected: str) -> None:
    assert messages.encode(message, 7).hex() == expected


def test_only_the_flag_differs_where_an_acknowledgement_is_asked_for() -> None:
    plain = messages.encode(messages.delete_link(name="a"), 1)
    asking = messages.encode(messages.delete_link(name="a"), 1, acknowledge=True)
    assert asking[6] == plain[6] | messages.NLM_F_ACK
    assert asking[:6] + asking[7:] == plain[:6] + plain[7:]


def test_a_point_to_point_subnet_has_no_broadcast_address() -> None:
    body = messages.new_address(link_index=3, address="10.0.0.0", prefix_length=31)[2]
    assert sorted(messages.parse_attributes(body, 8)) == [1, 2]  # IFA_ADDRESS, IFA_LOCAL


def test_the_kernels_explanation_is_read_from_a_failure() -> None:
    """Captured from Linux 6.18, which was asked for an MTU of 70000."""
    data = bytes.fromhex(
        "4800000002000003030000003b2c0000eaffffff30000000100005000300000000000000240001006d74752067726561746572207468616e"
        "20646576696365206d6178696d756d00"
    )
    [reply] = messages.iter_replies(data)
    assert (reply.kind, reply.sequence) == (messages.NLMSG_ERROR, 3)
    assert messages.parse_error(reply) == (errno.EINVAL, "mtu greater than device maximum")


def test_an_acknowledgement_is_no_failure() -> None:
    data = bytes.fromhex("2400000002000001010000003b2c00000000000050000000100005060100000000000000")
    [reply] = messages.iter_replies(data)
    assert messages.parse_error(reply) == (0, "")


def test_addresses_are_read_from_a_dump() -> None:
    data = bytes.fromhex(
        "5400000014000200080000003b2c0000021080000200000008000100ac11000108000200ac11000108000400ac11ffff08000300627230"
        "00080008008000000014000600ffffffffffffffff7ed805007ed80500"
    )
    [reply] = messages.iter_replies(data)
    assert messages.parse_address(reply.body) == Prefix(socket.AF_INET, b"\xac\x11\x00\x01", 16, 2)


def test_routes_are_read_from_a_dump_without_the_hosts_own_addresses() -> None:
    """The default route, a connected one, and two of table local, which claim nothing that the addresses do not."""
    data = bytes.fromhex(
        "3400000018002200090000003b2c000002000000fe0300011000000008000f00fe00000008000500ac11000908000400020000003c00000018"
        "002200090000003b2c000002100000fe02fd010000000008000f00fe00000008000100ac11000008000700ac11000108000400020000003c00"
        "000018002200090000003b2c000002200000ff02fe020000000008000f00ff00000008000100ac11000108000700ac11000108000400020000"
        "003c00000018002200090000003b2c000002200000ff02fd030000000008000f00ff00000008000100ac11ffff08000700ac11000108000400"
        "02000000"
    )
    routes = [messages.parse_route(reply.body) for reply in messages.iter_replies(data)]
    assert routes == [
        Prefix(socket.AF_INET, bytes(4), 0, 2, b"\xac\x11\x00\x09"),
        Prefix(socket.AF_INET, b"\xac\x11\x00\x00", 16, 2),
        None,
        None,
    ]


def attribute(kind: int, payload: bytes) -> bytes:
    """By another road than the module's own: linux/netlink.h, struct nlattr."""
    return (struct.pack("=HH", len(payload) + 4, kind) + payload).ljust((len(payload) + 7) & ~3, b"\0")


def test_where_a_packet_goes_is_read_from_the_answer() -> None:
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 0, 0, 1, 0x200)
    attributes = ((4, struct.pack("=I", 2)), (5, bytes((192, 0, 2, 254))), (7, bytes((192, 0, 2, 2))))
    body += b"".join(struct.pack("=HH", 4 + len(value), kind) + value for kind, value in attributes)
    assert messages.parse_route_answer(body) == Route(link_index=2, gateway="192.0.2.254", source="192.0.2.2", is_local=False)
    local = struct.pack("=BBBBBBBBI", socket.AF_INET6, 128, 0, 0, 255, 0, 0, 2, 0)
    assert messages.parse_route_answer(local) == Route(link_index=0, gateway="", source="", is_local=True)


@pytest.mark.parametrize(("state", "forwards"), [(3, True), (0, False), (2, False)])
def test_a_bridge_port_says_whether_it_forwards(state: int, forwards: bool) -> None:
    port = attribute(4, b"bridge\0") + attribute(5, attribute(1, bytes([state])))
    body = (
        struct.pack("=BxHiII", 0, 1, 7, 1, 0)
        + attribute(3, b"veth1\0")
        + attribute(10, struct.pack("=I", 5))
        + attribute(33, b"\1")
        + attribute(18, attribute(1, b"veth\0") + port)
    )
    assert messages.parse_link(body) == Link(7, "veth1", "veth", "", 0, 5, is_up=True, has_carrier=True, port_forwarding=forwards)


def test_a_link_that_is_no_port_says_nothing_about_forwarding() -> None:
    body = struct.pack("=BxHiII", 0, 1, 7, 0, 0) + attribute(3, b"br0\0") + attribute(18, attribute(1, b"bridge\0"))
    assert messages.parse_link(body) == Link(7, "br0", "bridge", "", 0, 0, is_up=False, has_carrier=False, port_forwarding=None)


@given(st.binary(max_size=200))
def test_cut_or_senseless_bytes_are_refused_cleanly(data: bytes) -> None:
    for parse in (lambda: list(messages.iter_replies(data)), lambda: messages.parse_attributes(data)):
        with contextlib.suppress(ValueError):
            parse()


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_attributes_survive_the_round_trip(attributes: dict[int, bytes]) -> None:
    assert messages.parse_attributes(b"".join(attribute(kind, payload) for kind, payload in attributes.items())) == attributes
