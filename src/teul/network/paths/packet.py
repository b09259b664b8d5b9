"""A packet as far as it is known, and what nftables' expressions are worth of it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from teul.network.ipam import Address, Subnet
from teul.network.paths.ruleset import Expression


class Value(Enum):
    """What is no value: one that is not known, and one that such a packet does not have."""

    UNKNOWN = "unknown"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Other:
    """Any value but these: names of interfaces, or subnets."""

    excluded: frozenset[str | Subnet]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """The first packet of a connection. `source` and `input` may be known by what they are not; "" is no interface.

    `port` is None where any is meant. `was_sent_to` is where a packet that was translated was sent at first.
    """

    version: int
    protocol: str
    source: Address | Other
    destination: Address | Other
    port: int | None
    input: str | Other = ""
    output: str | Other = ""
    is_local: bool = False
    was_sent_to: tuple[Address | Other, int | None] | None = None

    @property
    def place(self) -> str:
        """Where it is going, for people."""
        if isinstance(self.destination, Other):
            return "somewhere else"
        address = f"[{self.destination}]" if self.version == 6 else str(self.destination)
        return f"{address}:{self.port}" if self.port is not None else str(self.destination)


def value_of(expression: Any, packet: Packet) -> Any:
    """A text, number, address, `Other` or `Value`; a tuple of a concatenation, a list of flags."""
    if isinstance(expression, (str, int)):
        return expression
    kind, body = next(iter(expression.items()))
    if kind == "concat":
        return tuple(value_of(part, packet) for part in body)
    read = _READERS.get(kind)
    return read(body, packet) if read is not None else Value.UNKNOWN


def _payload(body: Expression, packet: Packet) -> Any:
    protocol, name = body.get("protocol"), body.get("field")
    if protocol in ("ip", "ip6"):
        if packet.version != {"ip": 4, "ip6": 6}[protocol]:
            return Value.ABSENT
        return {"saddr": packet.source, "daddr": packet.destination}.get(str(name), _protocol(name, packet))
    if protocol in ("tcp", "udp", "sctp", "udplite", "dccp", "icmp", "icmpv6") and protocol != packet.protocol:
        return Value.ABSENT
    return packet.port if name == "dport" and packet.port is not None else Value.UNKNOWN


def _protocol(name: Any, packet: Packet) -> Any:
    return packet.protocol if name in ("protocol", "nexthdr") else Value.UNKNOWN


def _meta(body: Expression, packet: Packet) -> Any:
    values: dict[str, Any] = {
        "iifname": packet.input,
        "iif": packet.input,
        "oifname": packet.output,
        "oif": packet.output,
        "l4proto": packet.protocol,
        "nfproto": f"ipv{packet.version}",
        "protocol": "ip" if packet.version == 4 else "ip6",
    }
    return values.get(str(body.get("key")), Value.UNKNOWN)


def _conntrack(body: Expression, packet: Packet) -> Any:
    key = str(body.get("key"))
    if key == "state":
        return ["new"]
    if key == "direction":
        return "original"
    if key == "status":
        return ["dnat"] if packet.was_sent_to is not None else []
    if body.get("dir") == "original":
        destination, port = packet.was_sent_to or (packet.destination, packet.port)
        if key == "proto-dst":
            return Value.UNKNOWN if port is None else port
        if key in ("ip daddr", "ip6 daddr", "daddr"):
            return destination if packet.version == (6 if key.startswith("ip6") else 4) or key == "daddr" else Value.ABSENT
    return Value.UNKNOWN


def _fib(body: Expression, packet: Packet) -> Any:
    flags = body.get("flags")
    if body.get("result") == "type" and flags in ("daddr", ["daddr"]):
        return "local" if packet.is_local else Other(frozenset({"local"}))
    return Value.UNKNOWN


_READERS = {"payload": _payload, "meta": _meta, "ct": _conntrack, "fib": _fib}


def is_in(value: Any, candidate: Any) -> bool | None:
    """Whether a value is what an element, a set of elements, a prefix or a range stands for; None if it may be."""
    if value is Value.ABSENT:
        return False
    if isinstance(value, tuple):
        parts = candidate.get("concat") if isinstance(candidate, dict) else None
        if parts is None or len(parts) != len(value):
            return any_of([is_in(value, each) for each in candidate["set"]]) if _is_set(candidate) else None
        return all_of([is_in(one, other) for one, other in zip(value, parts, strict=True)])
    if _is_set(candidate):
        return any_of([is_in(value, each) for each in candidate["set"]])
    if value is Value.UNKNOWN:
        return None
    if isinstance(value, list):  # flags: one of them is enough
        wanted = candidate if isinstance(candidate, list) else [candidate]
        return any(each in value for each in wanted)
    if isinstance(candidate, list):
        return any_of([is_in(value, each) for each in candidate])
    if isinstance(candidate, dict):
        return _is_in_stretch(value, candidate)
    return _is(value, candidate)


def _is_set(candidate: Any) -> bool:
    return isinstance(candidate, dict) and isinstance(candidate.get("set"), list)


def _is_in_stretch(value: Any, candidate: dict[str, Any]) -> bool | None:
    kind, body = next(iter(candidate.items()))
    if kind == "elem":  # an element with a comment, a counter or an end in time
        return is_in(value, body.get("val"))
    try:
        if kind == "prefix":
            network = ipaddress.ip_network(f"{body['addr']}/{body['len']}", strict=False)
            return _is_within(value, network)
        if kind == "range" and isinstance(value, int):
            return int(body[0]) <= value <= int(body[1])
        if kind == "range" and isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
            return int(ipaddress.ip_address(body[0])) <= int(value) <= int(ipaddress.ip_address(body[1]))
    except (ValueError, TypeError, KeyError):
        return None
    return None


def _is_within(value: Any, network: Subnet) -> bool | None:
    if isinstance(value, Other):
        known = [each for each in value.excluded if isinstance(each, (ipaddress.IPv4Network, ipaddress.IPv6Network))]
        # Overlapping is not enough: 0.0.0.0/0 has every address in it.
        return False if any(each.version == network.version and network.subnet_of(each) for each in known) else None  # type: ignore[arg-type]  # of one version
    if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return value.version == network.version and value in network
    return None


def _is(value: Any, candidate: Any) -> bool | None:
    if isinstance(candidate, str) and candidate.startswith("@"):
        return None
    if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        try:
            return value == ipaddress.ip_address(candidate)
        except ValueError:
            return None
    if isinstance(value, Other):
        if candidate in value.excluded:
            return False
        try:
            return _is_within(value, ipaddress.ip_network(candidate))
        except ValueError:
            return None
    if isinstance(value, str) and isinstance(candidate, str) and candidate.endswith("*"):
        return value.startswith(candidate[:-1])
    if isinstance(value, int) and not isinstance(candidate, int):
        return None  # by a name that is not known here
    return bool(value == candidate)


def any_of(answers: Sequence[bool | None]) -> bool | None:
    """Whether one is true; None if that is not known."""
    return True if True in answers else None if None in answers else False


def all_of(answers: Sequence[bool | None]) -> bool | None:
    """Whether all are true; None if that is not known."""
    return False if False in answers else None if None in answers else True
