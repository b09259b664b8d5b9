"""The engine's nftables table, rendered as data: what containers may reach, and under whose address.

    set bridges    the engine's bridges
    set within     pairs of bridges between which packets pass: each with itself
    set subnets4   the networks' subnets; `home4`: each with its bridge

    forward        packets to a bridge of the engine's pass if they belong to a connection that exists, stay within the network, or were
                   sent there by address translation (a published port); the rest is dropped: other networks, other hosts
    postrouting    packets that leave a subnet other than by its own bridge go out under the host's address

A network is one element in each set, so the number of rules stays the same; publishing a port will be one element of a map in a
prerouting chain. An accept here counts for this table only: another table that drops still drops (see forward_policy).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from teul.network.bridge import Bridge

_LINK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def render_table(table: str, bridges: Sequence[Bridge]) -> str:
    """The script that makes the table anew, in one transaction: established connections do not notice.

    Raises ValueError for an invalid name: only letters, digits and a few signs get into a script.
    """
    _check(_TABLE_NAME, table)
    for bridge in bridges:
        _check(_LINK_NAME, bridge.name)
    lines = [
        *_set("bridges", "ifname", (f'"{bridge.name}"' for bridge in bridges)),
        *_set("within", "ifname . ifname", (f'"{bridge.name}" . "{bridge.name}"' for bridge in bridges)),
    ]
    versions = sorted({bridge.subnet.version for bridge in bridges})
    for version in versions:
        kind = "ipv4_addr" if version == 4 else "ipv6_addr"
        own = [bridge for bridge in bridges if bridge.subnet.version == version]
        lines += _set(f"subnets{version}", kind, (str(bridge.subnet) for bridge in own), flags="interval")
        lines += _set(f"home{version}", f"{kind} . ifname", (f'{bridge.subnet} . "{bridge.name}"' for bridge in own), flags="interval")
    lines += _FORWARD
    lines += ["chain postrouting {", "\ttype nat hook postrouting priority srcnat; policy accept;"]
    for version in versions:
        source = "ip saddr" if version == 4 else "ip6 saddr"
        lines.append(f"\t{source} @subnets{version} {source} . oifname != @home{version} masquerade")
    lines.append("}")
    body = "\n".join("\t" + line for line in lines)
    # `delete` fails where there is no such table, so `add` comes first.
    return f"add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{body}\n}}\n"


def render_removal(table: str) -> str:
    """The script that removes the table, whether it is there or not."""
    _check(_TABLE_NAME, table)
    return f"add table inet {table}\ndelete table inet {table}\n"


_FORWARD = (
    "chain forward {",
    "\ttype filter hook forward priority filter; policy accept;",
    "\toifname != @bridges accept",
    "\tct state established,related accept",
    "\tiifname . oifname @within accept",
    "\tct status dnat accept",
    "\tdrop",
    "}",
)


def _set(name: str, kind: str, elements: Iterable[str], *, flags: str = "") -> list[str]:
    listed = ", ".join(elements)
    return [
        f"set {name} {{",
        f"\ttype {kind}",
        *([f"\tflags {flags}"] if flags else []),
        *([f"\telements = {{ {listed} }}"] if listed else []),
        "}",
    ]


def _check(pattern: re.Pattern[str], name: str) -> None:
    if not pattern.fullmatch(name):
        raise ValueError(f"not a name for nftables: {name!r}")
