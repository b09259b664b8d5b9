"""From what the agent holds of a network to what it should hold: the orders for that. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from teul.network.agent.messages import NamesOrder, NetworkTable

V = TypeVar("V", "list[str]", str)

# kernel: a message fits into net.core.wmem_max, 212992 bytes as it comes, however it is counted.
_MESSAGE_BYTES = 64 * 1024
_ENTRY_BYTES = 16  # quotes, colons and commas


def names_orders(before: NetworkTable | None, after: NetworkTable) -> list[NamesOrder]:
    """The orders that make `before` (None: nothing that is known) into `after`; none if nothing is different."""
    if before is not None and before["name"] != after["name"]:
        before = None
    old_names, old_reverse = (before["names"], before["reverse"]) if before is not None else ({}, {})
    names = _changes(old_names, after["names"], [])
    reverse = _changes(old_reverse, after["reverse"], "")
    if before is not None and not names and not reverse:
        return []
    orders = [_order(after)]
    left = _MESSAGE_BYTES
    for name, addresses in names:
        orders, left = _make_room(orders, left, after, len(name) + sum(len(address) + _ENTRY_BYTES for address in addresses))
        orders[-1]["names"][name] = addresses
    for address, owner in reverse:
        orders, left = _make_room(orders, left, after, len(address) + len(owner))
        orders[-1]["reverse"][address] = owner
    orders[0]["begin"] = before is None
    orders[-1]["end"] = True
    return orders


def _changes(before: Mapping[str, V], after: Mapping[str, V], nothing: V) -> list[tuple[str, V]]:
    gone = [(key, nothing) for key in before if key not in after]
    return gone + [(key, value) for key, value in after.items() if before.get(key) != value]


def _order(table: NetworkTable) -> NamesOrder:
    return {"order": "names", "id": table["id"], "name": table["name"], "names": {}, "reverse": {}, "begin": False, "end": False}


def _make_room(orders: list[NamesOrder], left: int, table: NetworkTable, size: int) -> tuple[list[NamesOrder], int]:
    size += _ENTRY_BYTES
    if size > left and left < _MESSAGE_BYTES:
        return [*orders, _order(table)], _MESSAGE_BYTES - size
    return orders, left - size
