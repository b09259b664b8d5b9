"""The engine's nftables table, rendered as data: what containers may reach, under whose address, and what reaches them.

    set bridges     the engine's bridges; `internal`: those of networks that nothing leaves
    map neighbours  what becomes of packets that stay on a bridge, by the pair of it with itself: they pass, or are asked about in `linked`
    set subnets4    the subnets that go out under the host's address; `home4`: every subnet with its bridge
    map ports4      published ports: protocol and port to a container's address and port
    map bound4      the same of ports that are published on one of the host's addresses only
    map relayed     published ports that something on the host listens at, who passes it on
    set linked4     ports that links open between containers that are kept apart (see linked)

    chain user         the administrator's: asked before any packet is forwarded to or from a container; the engine never changes it
    chain arriving     the host's 127.0.0.0/8 is nobody's to reach from a bridge (`route_localnet` is on there, for published ports); and
                       egress policies (see egress_rules)
    chain prerouting   what comes for a published port goes to its container; `output`: what the host itself sends there
    chain input        what containers send to the host itself: relayed ports are not an internal network's to reach, and egress policies
                       count (see egress_rules)
    chain forward      (`from_bridges` and `from_elsewhere`, both of which go on in `to_bridges`)
                       packets to a bridge of the engine's pass if they belong to a connection that exists, stay within the network (of one
                       that keeps its containers apart, if a link says so), or were sent there by address translation (a published port);
                       the rest is dropped: other networks, other hosts
    chain postrouting  packets that leave a subnet other than by its own bridge go out under the host's address; so does what comes back to
                       its own network by way of a published port, or from the host's loopback, for the answer has to come this way, too

Every packet of the host's passes what is hooked, most of them of a connection that exists. So what is cheap is asked first, and sets
are looked up seldom: once in `forward` for each side of a bridge, and once more for what stays on it. Sets and maps of IPv6 end in 6. A
network, or a published port, is one element of each; the number of rules stays the same. An accept here counts for this table only:
another table that drops still drops (see forward_policy).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from teul.network.bridge import Bridge
from teul.network.firewall import egress_rules

_LINK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
LINKED = "linked4"
"""The set of what passes between containers that are kept apart, of which `firewall.linked` makes elements."""
_ADDRESS_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}


def render_table(table: str, bridges: Sequence[Bridge]) -> str:
    """The script that brings the table to what it should be for these networks, in one transaction: connections do not notice.

    Published ports, links and egress policies stay as they are (see `firewall.ports`, `firewall.linked`, `firewall.egress`).
    Raises ValueError for an invalid name: only letters, digits and a few signs get into a script.
    """
    check_table_name(table)
    lines = [f"table inet {table} {{", *(f"\t{line}" for line in _DECLARATIONS), "}"]
    lines += [f"flush {kind} inet {table} {name}" for kind, name in _owned() if name not in _KEPT]
    lines += [f"table inet {table} {{", *(f"\t{line}" for line in _RULES), "}"]
    lines += _elements("add", table, bridges)
    return "\n".join([*lines, ""])


def render_added(table: str, bridge: Bridge) -> str:
    """The script that adds one network to the table."""
    check_table_name(table)
    return "\n".join([*_elements("add", table, [bridge]), ""])


def render_removed(table: str, bridge: Bridge) -> str:
    """The script that takes one network out of the table."""
    check_table_name(table)
    return "\n".join([*_elements("delete", table, [bridge]), ""])


def render_removal(table: str, *, keeps_user: bool = False) -> str:
    """The script that removes the table, whether it is there or not; with `keeps_user`, all of it but the administrator's chain."""
    check_table_name(table)
    if not keeps_user:
        # `delete` fails where there is no such table, so `add` comes first.
        return f"add table inet {table}\ndelete table inet {table}\n"
    lines = [f"table inet {table} {{", *(f"\t{line}" for line in _DECLARATIONS), "}"]
    owned = _owned()
    lines += [f"flush chain inet {table} {name}" for kind, name in owned if kind == "chain"]
    lines += [f"delete {kind} inet {table} {name}" for kind, name in reversed(owned)]
    return "\n".join([*lines, ""])


def render_user_chain(table: str) -> str:
    """The script that lists the administrator's chain."""
    check_table_name(table)
    return f"list chain inet {table} user\n"


def rule_counts() -> dict[str, int]:
    """How many rules the engine puts into each chain that is its own."""
    counts: dict[str, int] = {}
    chain = ""
    for line in _RULES:
        if line.startswith("chain "):
            chain = line.split()[1]
        elif line.startswith("\t"):
            counts[chain] = counts.get(chain, 0) + 1
    return counts


def has_rules(listing: str) -> bool:
    """Whether the administrator's chain, as nft lists it, says anything."""
    lines = [line.strip() for line in listing.splitlines()]
    return any(line and not line.startswith(("table ", "chain ", "}", "#")) for line in lines)


def check_table_name(table: str) -> None:
    """Raise ValueError for what is no name of a table."""
    _check(_TABLE_NAME, table)


def check_link_name(name: str) -> None:
    """Raise ValueError for what is no name of a link."""
    _check(_LINK_NAME, name)


_DECLARATIONS = (
    "set bridges { type ifname; }",
    "set internal { type ifname; }",
    "map neighbours { type ifname . ifname : verdict; }",
    *(
        line
        for version, kind in _ADDRESS_TYPES.items()
        for line in (
            f"set subnets{version} {{ type {kind}; flags interval; }}",
            f"set home{version} {{ type {kind} . ifname; flags interval; }}",
            f"map ports{version} {{ type inet_proto . inet_service : {kind} . inet_service; }}",
            f"map bound{version} {{ type {kind} . inet_proto . inet_service : {kind} . inet_service; }}",
        )
    ),
    f"set {LINKED} {{ type ifname . ipv4_addr . ipv4_addr . inet_proto . inet_service; }}",
    "map relayed { type inet_proto . inet_service : verdict; }",
    "chain user { }",
    *egress_rules.DECLARATIONS,
    *(f"chain {name} {{ }}" for name in ("linked", "to_bridges", "from_elsewhere", "from_bridges")),
    "chain prerouting { type nat hook prerouting priority dstnat; policy accept; }",
    "chain output { type nat hook output priority -100; policy accept; }",
    "chain forward { type filter hook forward priority filter; policy accept; }",
    "chain postrouting { type nat hook postrouting priority srcnat; policy accept; }",
)
_KEPT = egress_rules.KEPT | {LINKED, "relayed", "ports4", "ports6", "bound4", "bound6"}
_TO_PORTS = (
    "dnat ip to ip daddr . meta l4proto . th dport map @bound4",
    "dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound6",
    "fib daddr type local dnat ip to meta l4proto . th dport map @ports4",
)
_RULES = (
    *egress_rules.RULES,
    "chain prerouting {",
    # security: a port that is published on the host's loopback is nobody's on the wire, who could send there what has that destination.
    "\tip daddr 127.0.0.0/8 return",
    "\tip6 daddr ::1 return",
    *(f"\t{rule}" for rule in _TO_PORTS),
    "\tfib daddr type local dnat ip6 to meta l4proto . th dport map @ports6",
    "}",
    "chain output {",
    *(f"\t{rule}" for rule in _TO_PORTS),
    # kernel: what has ::1 for its source never leaves the host, so it is led nowhere.
    "\tip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @ports6",
    "}",
    "chain linked {",
    f"\tiifname . ip saddr . ip daddr . meta l4proto . th dport @{LINKED} accept",
    "}",
    "chain to_bridges {",
    "\tct state established,related accept",
    "\toifname @internal drop",
    "\tct status dnat accept",
    "\tdrop",
    "}",
    "chain from_elsewhere {",
    "\tjump user",
    "\tgoto to_bridges",
    "}",
    "chain from_bridges {",
    "\tjump user",
    # What comes to a neighbour by way of a published port has been sent to the host.
    "\tct status dnat jump egress",
    "\tiifname . oifname vmap @neighbours",
    "\tjump egress",
    "\tiifname @internal drop",
    "\toifname != @bridges accept",
    "\tgoto to_bridges",
    "}",
    "chain forward {",
    "\tiifname @bridges goto from_bridges",
    "\toifname @bridges goto from_elsewhere",
    "}",
    "chain postrouting {",
    "\tip saddr @subnets4 ip saddr . oifname != @home4 masquerade",
    "\tip6 saddr @subnets6 ip6 saddr . oifname != @home6 masquerade",
    "\tct status dnat ip saddr . oifname @home4 masquerade",
    "\tct status dnat ip6 saddr . oifname @home6 masquerade",
    "\toifname @bridges ip saddr 127.0.0.0/8 masquerade",
    "}",
)


def _owned() -> list[tuple[str, str]]:
    """(kind, name) of everything declared but the administrator's chain."""
    found = [tuple(line.split()[:2]) for line in _DECLARATIONS]
    return [(kind, name) for kind, name in found if name != "user"]


def _elements(verb: str, table: str, bridges: Sequence[Bridge]) -> list[str]:
    for bridge in bridges:
        check_link_name(bridge.name)
    lines = [
        *_element_line(verb, table, "bridges", (f'"{bridge.name}"' for bridge in bridges)),
        *_element_line(verb, table, "internal", (f'"{bridge.name}"' for bridge in bridges if bridge.is_internal)),
        *_element_line(verb, table, "neighbours", (_to_itself(bridge) for bridge in bridges)),
    ]
    for version in _ADDRESS_TYPES:
        own = [(bridge, segment.subnet) for bridge in bridges for segment in bridge.segments if segment.subnet.version == version]
        translated = (str(subnet) for bridge, subnet in own if bridge.is_masqueraded and not bridge.is_internal)
        lines += _element_line(verb, table, f"subnets{version}", translated)
        lines += _element_line(verb, table, f"home{version}", (f'{subnet} . "{bridge.name}"' for bridge, subnet in own))
    return lines


def _to_itself(bridge: Bridge) -> str:
    return f'"{bridge.name}" . "{bridge.name}" : {"accept" if bridge.has_icc else "jump linked"}'


def _element_line(verb: str, table: str, name: str, elements: Iterable[str]) -> list[str]:
    listed = ", ".join(elements)
    return [f"{verb} element inet {table} {name} {{ {listed} }}"] if listed else []


def _check(pattern: re.Pattern[str], name: str) -> None:
    if not pattern.fullmatch(name):
        raise ValueError(f"not a name for nftables: {name!r}")
