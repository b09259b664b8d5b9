"""Ports that links open between containers that a bridge keeps apart, in the engine's nftables table: an element of a set for each.

Where containers of a network are not to reach one another, their bridge passes nothing from port to port, and answers ARP in each one's
place (see `bridge`). So what a container sends to a neighbour is forwarded by the host: the table's chain `forward` drops it, unless an
element is there for it, and lets the answers back, as those of every connection. docker: links are of IPv4 alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address
from typing import NamedTuple

from teul.network.firewall import scripts
from teul.network.firewall.table import LINKED, check_link_name, check_table_name
from teul.network.ports.plan import PROTOCOLS


class LinkedPort(NamedTuple):
    """What comes from `source`, a container on the bridge, for this port of another one there, passes."""

    bridge: str
    source: IPv4Address
    target: IPv4Address
    protocol: str
    port: int


class LinkGate:
    """The elements of links in an engine's table. Nothing here remembers them; each method is one transaction, blocks, raises `OSError`."""

    def __init__(self, table: str) -> None:
        """`table` is the name of the engine's nftables table."""
        self._table = table
        self._session = scripts.Session()

    def change(self, removed: Collection[LinkedPort], added: Collection[LinkedPort]) -> None:
        """Take elements out and put others in. Fails, and changes nothing, with ENOENT if one is not there, or there is no firewall."""
        self._session.run(render_change(self._table, removed, added))

    def set(self, wanted: Collection[LinkedPort]) -> None:
        """Have exactly these elements. Fails with ENOENT without a firewall."""
        self._session.run(render_exactly(self._table, wanted))

    def close(self) -> None:
        """Let go of what is kept open. Idempotent."""
        self._session.close()


def render_change(table: str, removed: Collection[LinkedPort], added: Collection[LinkedPort]) -> str:
    """The script that takes elements out of the table and puts others in. Raises ValueError for what is no name and no protocol."""
    check_table_name(table)
    return _elements("delete", table, removed) + _elements("add", table, added)


def render_exactly(table: str, wanted: Collection[LinkedPort]) -> str:
    """The script after which these elements are in the table and no others, in one transaction. Raises as `render_change`."""
    check_table_name(table)
    return f"flush set inet {table} {LINKED}\n" + _elements("add", table, wanted)


def _elements(verb: str, table: str, ports: Iterable[LinkedPort]) -> str:
    keys = [_key(port) for port in sorted(ports)]
    return f"{verb} element inet {table} {LINKED} {{ {', '.join(keys)} }}\n" if keys else ""


def _key(each: LinkedPort) -> str:
    check_link_name(each.bridge)
    if each.protocol not in PROTOCOLS:
        raise ValueError(f"not a protocol for nftables: {each.protocol!r}")
    return f'"{each.bridge}" . {each.source} . {each.target} . {each.protocol} . {int(each.port)}'
