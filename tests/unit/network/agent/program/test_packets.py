"""DNS messages as bytes: what Docker's server answers, and that no bytes can do more than be refused."""

from __future__ import annotations

import struct

import pytest
from dnslib import AAAA, CLASS, CNAME, EDNS0, QTYPE, RCODE, RR, TXT, A, DNSHeader, DNSQuestion, DNSRecord
from dnslib.label import DNSBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from teul.network.agent.messages import View
from teul.network.agent.program import packets
from teul.network.agent.program.names import Names, Network, checked
from teul.network.agent.program.packets import Query

VIEW: View = checked({"networks": ["n1"], "links": {}, "servers": [], "forwards": True})
OWNER_LABEL = "x" * 64


def make_names() -> Names:
    names = Names()
    network = names.networks["n1"] = Network("n1", "front")
    network.change(
        {
            "web": ["172.18.0.2", "fd00::2"],
            "old": ["172.18.0.3"],
            "six": ["fd00::4"],
            "my_app": ["172.18.0.5"],
            "many": [f"10.0.{high}.{low}" for high in range(20) for low in range(250)],
        },
        {"172.18.0.2": "web.front", "fd00::2": "web.front", "172.18.0.9": f"{OWNER_LABEL}.front", "172.18.0.8": "web..front"},
    )
    return names


def query(name: str, kind: str = "A", of_class: str = "IN", **header: int) -> bytes:
    head = DNSHeader(id=0x1234, bitmap=0, rd=1, **header)
    return bytes(DNSRecord(head, q=DNSQuestion(name, getattr(QTYPE, kind), getattr(CLASS, of_class))).pack())


def read(packet: bytes) -> Query:
    found = packets.read_query(packet)
    assert isinstance(found, Query), found
    return found


def ask(name: str, kind: str = "A", of_class: str = "IN", *, by_udp: bool = True) -> DNSRecord | None:
    answer = packets.answer(read(query(name, kind, of_class)), make_names(), VIEW, by_udp=by_udp)
    return None if answer is None else DNSRecord.parse(answer)


@pytest.mark.parametrize(
    ("name", "kind", "answers"),
    [
        ("web", "A", ["172.18.0.2"]),
        ("web.front", "AAAA", ["fd00::2"]),
        ("my_app", "A", ["172.18.0.5"]),
        ("old", "AAAA", []),
        ("six", "A", []),
        ("web", "MX", []),  # docker: so that a mail server takes the name itself
        ("six", "MX", []),
        ("2.0.18.172.in-addr.arpa", "PTR", ["web.front."]),
        ("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", "PTR", ["web.front."]),
    ],
)
def test_a_known_name_is_answered(name: str, kind: str, answers: list[str]) -> None:
    """docker: not authoritative, recursion available, 600 seconds."""
    record = ask(name, kind)
    assert record is not None
    assert [str(answer.rdata) for answer in record.rr] == answers
    assert {(answer.ttl, answer.rtype, answer.rclass, str(answer.rname)) for answer in record.rr} <= {
        (600, getattr(QTYPE, kind), CLASS.IN, f"{name}.")
    }
    head = record.header
    assert (head.id, head.qr, head.aa, head.tc, head.rd, head.ra, head.rcode) == (0x1234, 1, 0, 0, 1, 1, RCODE.NOERROR)
    assert [(str(record.q.qname), record.q.qtype)] == [(f"{name}.", getattr(QTYPE, kind))]
    assert not record.ar


@pytest.mark.parametrize(
    ("name", "kind", "of_class"),
    [
        ("nobody", "A", "IN"),
        ("nobody", "MX", "IN"),
        ("example.org", "AAAA", "IN"),
        ("web", "TXT", "IN"),
        ("web", "ANY", "IN"),
        ("web", "SRV", "IN"),
        ("web", "HTTPS", "IN"),
        ("web", "A", "CH"),
        ("version.bind", "TXT", "CH"),
        ("9.9.9.9.in-addr.arpa", "PTR", "IN"),
        ("web", "PTR", "IN"),
    ],
)
def test_what_the_networks_do_not_decide_is_for_others_to_answer(name: str, kind: str, of_class: str) -> None:
    assert ask(name, kind, of_class) is None


def test_the_answer_repeats_the_question_in_the_clients_own_spelling() -> None:
    """Some clients vary the case to make guessing harder, and take no other spelling for an answer."""
    answer = packets.answer(read(query("wEb.FroNT")), make_names(), VIEW, by_udp=True)
    assert answer is not None
    assert answer.count(b"\x03wEb\x05FroNT\x00") == 1


def test_an_answer_fits_into_what_the_client_takes() -> None:
    """RFC 1035: 512 bytes by UDP, or what it offers (RFC 6891); 65535 by TCP. What is left out is said to be."""
    names = make_names()
    plain = read(query("many"))
    offering = DNSRecord.parse(query("many"))
    offering.add_ar(EDNS0(udp_len=4096))
    for found, by_udp, size, truncated in ((plain, True, 512, 1), (read(offering.pack()), True, 4096, 1), (plain, False, 65535, 1)):
        answer = packets.answer(found, names, VIEW, by_udp=by_udp)
        assert answer is not None
        assert size - 28 < len(answer) <= size
        record = DNSRecord.parse(answer)
        assert record.header.tc == truncated
        assert len(record.rr) == len({str(each.rdata) for each in record.rr}) == (size - 12 - 10) // 16


def test_a_small_offer_counts_as_none() -> None:
    record = DNSRecord.parse(query("web"))
    record.add_ar(EDNS0(udp_len=100))
    assert read(record.pack()).udp_bytes == 512


@pytest.mark.parametrize("octet", [8, 9])
def test_an_owner_that_is_no_name_for_dns_is_a_failure(octet: int) -> None:
    record = ask(f"{octet}.0.18.172.in-addr.arpa", "PTR")
    assert record is not None
    assert record.header.rcode == RCODE.SERVFAIL


def test_a_dot_inside_of_a_label_is_no_boundary() -> None:
    packet = struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\x09web.front\x00" + struct.pack("!2H", QTYPE.A, CLASS.IN)
    assert packets.answer(read(packet), make_names(), VIEW, by_udp=True) is None


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (query("web", opcode=1), RCODE.NOTIMP),
        (query("web", opcode=5), RCODE.NOTIMP),
        (struct.pack("!6H", 1, 0x100, 0, 0, 0, 0), RCODE.FORMERR),  # no question
        (struct.pack("!6H", 1, 0x100, 2, 0, 0, 0) + b"\x00\x00\x01\x00\x01" * 2, RCODE.FORMERR),
        (struct.pack("!6H", 1, 0x100, 1, 2, 0, 0) + b"\x00\x00\x01\x00\x01", RCODE.FORMERR),
        (struct.pack("!6H", 1, 0x100, 1, 0, 2, 0) + b"\x00\x00\x01\x00\x01", RCODE.FORMERR),
        (struct.pack("!6H", 1, 0x100, 1, 0, 0, 3) + b"\x00\x00\x01\x00\x01", RCODE.FORMERR),
        (struct.pack("!6H", 1, 0x100, 1, 0, 0, 1) + b"\x00\x00\x01\x00\x01", RCODE.FORMERR),  # a record is missing
        (struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\x03we", RCODE.FORMERR),
        (struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\x00\x01\x00\x01", RCODE.FORMERR),  # a name that is itself
        (struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\xc0\xff\x00\x01\x00\x01", RCODE.FORMERR),  # beyond the end
        (struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\x80" + b"x" * 128 + b"\x00\x00\x01\x00\x01", RCODE.FORMERR),
        (struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + (b"\x3f" + b"x" * 63) * 5 + b"\x00\x00\x01\x00\x01", RCODE.FORMERR),  # too long
        (query("web") + bytes(packets.MAX_QUERY_BYTES), RCODE.FORMERR),
    ],
)
def test_what_is_no_query_is_refused(packet: bytes, code: int) -> None:
    refusal = packets.read_query(packet)
    assert isinstance(refusal, bytes)
    head = DNSRecord.parse(refusal).header
    assert (head.id, head.qr, head.rcode) == (struct.unpack_from("!H", packet)[0], 1, code)


@pytest.mark.parametrize("packet", [b"", b"\x12\x34", query("web")[:11], query("web", qr=1)])
def test_to_what_has_no_id_or_is_an_answer_nothing_is_said(packet: bytes) -> None:
    assert packets.read_query(packet) is None


def test_a_failure_says_which_and_to_what() -> None:
    record = DNSRecord.parse(packets.failure(read(query("web", "TXT")), packets.SERVFAIL))
    assert (record.header.id, record.header.qr, record.header.ra, record.header.rcode) == (0x1234, 1, 0, RCODE.SERVFAIL)
    assert str(record.q.qname) == "web."


# Replies of upstream servers.


def reply(question: str = "example.org", kind: str = "A", *, number: int = 7, questions: int = 1, **header: int) -> bytes:
    record = DNSRecord(DNSHeader(id=number, bitmap=0, qr=header.pop("qr", 1), **header))
    for _ in range(questions):
        record.add_question(DNSQuestion(question, getattr(QTYPE, kind)))
    return bytes(record.pack())


@pytest.mark.parametrize(
    ("packet", "accepted"),
    [
        (reply(), True),
        (reply("EXAMPLE.org"), True),
        (reply(number=8), False),
        (reply(qr=0), False),
        (reply("example.com"), False),
        (reply(kind="AAAA"), False),
        (reply(questions=2), False),
        (reply(questions=0), False),
        (reply(questions=0, rcode=RCODE.FORMERR), True),
        (reply(opcode=4), False),
        (reply()[:11], False),
        (reply()[:14], False),
        (b"", False),
    ],
)
def test_a_reply_has_the_querys_id_and_question(packet: bytes, *, accepted: bool) -> None:
    assert packets.is_reply(read(query("example.org")), 7, packet) == accepted


def test_a_refusal_is_a_reason_to_ask_another_server() -> None:
    refused = [code for code in range(16) if packets.is_refusal(reply(rcode=code))]
    assert refused == [RCODE.SERVFAIL, RCODE.REFUSED]


def test_a_message_goes_on_under_another_id() -> None:
    packet = query("example.org")
    assert packets.with_id(packet, 0xBEEF) == b"\xbe\xef" + packet[2:]


# Any bytes.


def _mangled(packet: bytes, places: list[tuple[int, int]]) -> bytes:
    mangled = bytearray(packet)
    for place, value in places:
        mangled[place % len(mangled)] = value
    return bytes(mangled)


PLACES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=8)
KINDS = st.sampled_from(["A", "AAAA", "MX", "PTR", "TXT", "ANY"])
FOREIGN = st.one_of(
    st.binary(max_size=600),
    st.builds(
        lambda name, kind, places: _mangled(query(name, kind), places),
        st.sampled_from(["web", "web.front", "many", "2.0.18.172.in-addr.arpa"]),
        KINDS,
        PLACES,
    ),
    # A header that promises records, and labels and pointers of all kinds after it.
    st.builds(
        lambda counts, tail: struct.pack("!6H", 1, 0x100, 1, *counts) + bytes(tail),
        st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 2)),
        st.lists(st.sampled_from([0, 1, 2, 3, 12, 41, 63, 64, 192, 193, 255]), max_size=400),
    ),
)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(packet=FOREIGN, by_udp=st.booleans())
def test_any_bytes_are_answered_refused_or_passed_over(packet: bytes, *, by_udp: bool) -> None:
    """What is said to them is a message of their id; a query that is read can be answered with a failure, too."""
    found = packets.read_query(packet)
    if isinstance(found, Query):
        answer = packets.answer(found, make_names(), VIEW, by_udp=by_udp)
        assert answer is None or len(answer) <= (found.udp_bytes if by_udp else 65535)
        said = [packets.failure(found, packets.SERVFAIL), *([] if answer is None else [answer])]
    else:
        said = [] if found is None else [found]
    for each in said:
        assert each[:2] == packet[:2]
        assert DNSRecord.parse(each).header.qr == 1


@settings(max_examples=500, deadline=None, derandomize=True)
@given(packet=FOREIGN)
def test_any_bytes_are_a_reply_or_none(packet: bytes) -> None:
    number = struct.unpack_from("!H", packet)[0] if len(packet) >= 2 else 0
    if packets.is_reply(read(query("web")), number, packet):
        assert DNSHeader.parse(DNSBuffer(packet)).qr == 1


def test_pointers_that_lead_into_a_recursion_are_refused() -> None:
    """Each points to the one before, deeper than the interpreter goes; they are the data of one record and the name of the next."""
    start = 12 + 5 + 11  # after the header, the question and the record's own head
    depth = 1900
    chain = struct.pack("!H", 0xC000 | 12) + b"".join(struct.pack("!H", 0xC000 | (start + 2 * index)) for index in range(depth))
    first = b"\x00" + struct.pack("!2HIH", 65280, 1, 0, len(chain)) + chain
    last = struct.pack("!H", 0xC000 | (start + 2 * depth)) + struct.pack("!2HIH", 65280, 1, 0, 0)
    packet = struct.pack("!6H", 1, 0x100, 1, 0, 0, 2) + b"\x00\x00\x01\x00\x01" + first + last
    assert len(packet) <= packets.MAX_QUERY_BYTES
    with pytest.raises(RecursionError):
        DNSRecord.parse(packet)
    refusal = packets.read_query(packet)
    assert isinstance(refusal, bytes)
    assert DNSRecord.parse(refusal).header.rcode == RCODE.FORMERR


def address_reply(*records: RR) -> bytes:
    answer = DNSRecord.parse(query("Good.example")).reply()
    answer.add_answer(*records)
    return bytes(answer.pack())


def test_a_reply_gives_addresses_to_the_name_and_to_those_that_it_is_another_name_for() -> None:
    packet = address_reply(
        RR("two.example", QTYPE.A, rdata=A("192.0.2.2"), ttl=20),
        RR("one.example", QTYPE.CNAME, rdata=CNAME("TWO.example"), ttl=5),
        RR("good.EXAMPLE", QTYPE.CNAME, rdata=CNAME("one.example"), ttl=5),
        RR("good.example", QTYPE.AAAA, rdata=AAAA("2001:db8::1"), ttl=10),
        RR("good.example", QTYPE.TXT, rdata=TXT("192.0.2.9"), ttl=10),
        RR("evil.example", QTYPE.A, rdata=A("192.0.2.66"), ttl=10),
        RR("evil.example", QTYPE.CNAME, rdata=CNAME("good.example"), ttl=10),
    )
    assert packets.address_records(read(query("good.example")), packet) == [("192.0.2.2", 20), ("2001:db8::1", 10)]
    assert packets.address_records(read(query("good.example")), address_reply()) == []


@given(st.binary(max_size=200), st.integers(0, 60))
@settings(deadline=None)
def test_a_reply_that_cannot_be_read_gives_none(noise: bytes, cut: int) -> None:
    packet = address_reply(RR("good.example", QTYPE.A, rdata=A("192.0.2.2"), ttl=20))
    for foreign in (noise, packet[:cut] + noise):
        found = packets.address_records(read(query("good.example")), foreign)
        assert found is None or all(isinstance(address, str) for address, _seconds in found)


def test_a_reply_whose_names_go_round_in_circles_is_read_to_its_end() -> None:
    circle = [RR(f"{one}.example", QTYPE.CNAME, rdata=CNAME(f"{other}.example"), ttl=5) for one, other in (("good", "a"), ("a", "good"))]
    assert packets.address_records(read(query("good.example")), address_reply(*circle)) == []
