"""DNS messages in and out, as bytes: what is a query, how it is answered, and which reply from an upstream server is the one to it.

Every byte here is somebody else's: a container's, or an upstream server's. Nothing but a `Query` comes out of the first, and nothing but
bytes that answer that very query out of the second; what cannot be read is refused, however it cannot be read.

docker: daemon/libnetwork/resolver.go for what is answered and how, and what of a message its DNS library takes for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dnslib.dns import AAAA, PTR, QTYPE, RR, A, DNSHeader, DNSQuestion
from dnslib.label import DNSBuffer, DNSLabel

if TYPE_CHECKING:
    from teul.network.agent.messages import View
    from teul.network.agent.program.names import Names

HEADER_BYTES = 12
MAX_MESSAGE_BYTES = 65535
# What a query may have at most: a name of 255 bytes, a few options. Larger ones are refused before anybody reads them.
MAX_QUERY_BYTES = 4096
_PLAIN_UDP_BYTES = 512  # RFC 1035, 4.2.1
_MAX_UDP_BYTES = 65507  # of IPv4
_TTL_SECONDS = 600

# RFC 1035, 4.1.1 and 3.2; RFC 3596; RFC 6891
NOERROR, FORMERR, SERVFAIL, NOTIMP, REFUSED = 0, 1, 2, 4, 5
_TYPE_A, _TYPE_PTR, _TYPE_MX, _TYPE_AAAA, _TYPE_OPT = 1, 12, 15, 28, 41
_CLASS_IN, _CLASS_ANY = 1, 255
_ADDRESS_RECORD_BYTES = {4: 16, 6: 28}  # a pointer to the name, type, class, time to live, length, address


class Query(NamedTuple):
    """A query that can be answered or forwarded. `name` is as written, without the dot at its end."""

    packet: bytes
    header: DNSHeader
    question: DNSQuestion
    name: str
    udp_bytes: int  # how large an answer by UDP may be


def read_query(packet: bytes) -> Query | bytes | None:
    """The query in a message; or the answer to a message that is none; or None, where nothing is to be said to it.

    None to what is too short to have an id, and to answers: two servers could answer each other for ever.
    """
    if len(packet) < HEADER_BYTES:
        return None
    buffer = DNSBuffer(packet)
    header = DNSHeader.parse(buffer)
    if header.qr:
        return None
    if header.opcode:
        return _bare_failure(header, NOTIMP)
    if len(packet) > MAX_QUERY_BYTES or header.q != 1 or header.a > 1 or header.auth > 1 or header.ar > 2:
        return _bare_failure(header, FORMERR)
    try:
        question = DNSQuestion.parse(buffer)
        records = [RR.parse(buffer) for _ in range(header.a + header.auth + header.ar)]
    except Exception:  # noqa: BLE001 - boundary: one foreign message; a pointer may lead into a recursion, a record into any error
        return _bare_failure(header, FORMERR)
    if not _is_packable(question.qname):
        return _bare_failure(header, FORMERR)
    # RFC 6891, 6.1.2: the class of an OPT record is the size.
    offered = [record.rclass for record in records if record.rtype == _TYPE_OPT]
    return Query(packet, header, question, _text(question.qname), min(max([_PLAIN_UDP_BYTES, *offered]), _MAX_UDP_BYTES))


def answer(query: Query, names: Names, view: View, *, by_udp: bool) -> bytes | None:
    """The answer from the networks' names; None if these do not decide it, so that an upstream server is to be asked.

    A name that is known is answered also where it has no address of the wanted kind: with nothing, as a mail server's is, whose address is
    then asked for.
    """
    if query.question.qclass not in {_CLASS_IN, _CLASS_ANY}:
        return None
    wanted, size = query.question.qtype, query.udp_bytes if by_udp else MAX_MESSAGE_BYTES
    if wanted in {_TYPE_A, _TYPE_AAAA}:
        version = 4 if wanted == _TYPE_A else 6
        addresses = names.addresses(view, query.name, version)
        return None if addresses is None else _address_answer(query, addresses, version, size)
    if wanted == _TYPE_MX:
        return None if names.addresses(view, query.name, 4) is None else _pack(query, NOERROR, available=True)
    if wanted == _TYPE_PTR:
        owner = names.owner(view, query.name)
        if owner is None:
            return None
        # As bytes: text would be taken for an internationalized name, and refused or changed.
        label = DNSLabel(owner.encode())
        if not _is_packable(label):
            return failure(query, SERVFAIL)
        return _pack(query, NOERROR, [RR(query.question.qname, QTYPE.PTR, rdata=PTR(label), ttl=_TTL_SECONDS)], available=True)
    return None


def failure(query: Query, code: int) -> bytes:
    """The answer that says so."""
    return _pack(query, code)


def with_id(packet: bytes, number: int) -> bytes:
    """The same message under another id."""
    return number.to_bytes(2, "big") + packet[2:]


def is_reply(query: Query, number: int, packet: bytes) -> bool:
    """Whether a message answers the query that was sent under the id `number`: its id and its question say so.

    A server that fails may leave the question out: it may not have been able to read it.
    """
    if len(packet) < HEADER_BYTES:
        return False
    buffer = DNSBuffer(packet)
    header = DNSHeader.parse(buffer)
    if header.id != number or not header.qr or header.opcode:
        return False
    if not header.q:
        return bool(header.rcode != NOERROR)
    try:
        question = DNSQuestion.parse(buffer)
    except Exception:  # noqa: BLE001 - boundary: one foreign message
        return False
    return bool(header.q == 1 and question == query.question)


def address_records(query: Query, packet: bytes) -> list[tuple[str, int]] | None:
    """The addresses that a reply gives to the name that was asked for, with their times to live; None for what cannot be read.

    Of that name and of those that it is another name for (CNAME): what a reply says of other names is nobody's question.
    """
    buffer = DNSBuffer(packet)
    try:
        header = DNSHeader.parse(buffer)
        for _ in range(header.q):
            DNSQuestion.parse(buffer)
        records = [RR.parse(buffer) for _ in range(header.a)]
        names = {_text(query.question.qname).lower()}
        # As many turns as there are records, in whichever order they stand.
        for _ in records:
            aliases = {
                _text(each.rdata.label).lower() for each in records if each.rtype == QTYPE.CNAME and _text(each.rname).lower() in names
            }
            if aliases <= names:
                break
            names |= aliases
        wanted = [each for each in records if each.rtype in {_TYPE_A, _TYPE_AAAA} and _text(each.rname).lower() in names]
        return [(str(each.rdata), int(each.ttl)) for each in wanted]
    except Exception:  # noqa: BLE001 - boundary: one foreign message
        return None


def is_refusal(packet: bytes) -> bool:
    """Whether a reply says that another server had better be asked."""
    return packet[3] & 0xF in {SERVFAIL, REFUSED}


def _address_answer(query: Query, addresses: list[str], version: int, size: int) -> bytes:
    kind, make = (QTYPE.A, A) if version == 4 else (QTYPE.AAAA, AAAA)
    # The question takes its name, type and class; in the answers its name is a pointer of two bytes.
    room = (size - len(_pack(query, NOERROR))) // _ADDRESS_RECORD_BYTES[version]
    records = [RR(query.question.qname, kind, rdata=make(address), ttl=_TTL_SECONDS) for address in addresses[:room]]
    return _pack(query, NOERROR, records, available=True, truncated=len(addresses) > room)


def _pack(query: Query, code: int, records: list[RR] | None = None, *, available: bool = False, truncated: bool = False) -> bytes:
    asked = query.header
    header = DNSHeader(
        id=asked.id, bitmap=0, qr=1, rd=asked.rd, cd=asked.cd, ra=int(available), tc=int(truncated), rcode=code, q=1, a=len(records or ())
    )
    buffer = DNSBuffer()
    header.pack(buffer)
    query.question.pack(buffer)
    for record in records or ():
        record.pack(buffer)
    return bytes(buffer.data)


def _bare_failure(asked: DNSHeader, code: int) -> bytes:
    buffer = DNSBuffer()
    DNSHeader(id=asked.id, bitmap=0, qr=1, opcode=asked.opcode, rd=asked.rd, rcode=code).pack(buffer)
    return bytes(buffer.data)


def _is_packable(label: DNSLabel) -> bool:
    """RFC 1035, 2.3.4: what the library reads may be longer than what it writes."""
    return len(label) <= 253 and all(0 < len(part) <= 63 for part in label.label)


def _text(label: DNSLabel) -> str:
    """A dot inside of a label is no boundary between labels, and so stands for itself only with a backslash, as in zone files."""
    return b".".join(part.replace(b".", b"\\.") for part in label.label).decode()
