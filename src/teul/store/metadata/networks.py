"""Rows of `networks`, and of `endpoints`: the addresses that containers hold of them.

Every function takes the connection of a running transaction (`Database.transact`).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from teul.model.network import Network


@dataclass(frozen=True, slots=True)
class HeldAddresses:
    """One row of `endpoints`: the addresses (without prefix length) that a container holds; None where it has none."""

    network_id: str
    container_id: str
    ipv4: str | None
    ipv6: str | None


def load_networks(connection: sqlite3.Connection) -> list[Network]:
    """The record of every network, in no order."""
    return [Network.decode(row["record"]) for row in connection.execute("SELECT record FROM networks")]


def save_network(connection: sqlite3.Connection, network: Network) -> None:
    """Write the network's record, new or changed. The addresses that containers hold of the network stay."""
    connection.execute(
        "INSERT INTO networks (id, name, record) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record",
        (network.id, network.name, network.encode().decode()),
    )


def delete_network(connection: sqlite3.Connection, network_id: str) -> None:
    """Forget a network, and what containers hold of it. Idempotent."""
    connection.execute("DELETE FROM endpoints WHERE network_id = ?", (network_id,))
    connection.execute("DELETE FROM networks WHERE id = ?", (network_id,))


def load_held(connection: sqlite3.Connection) -> list[HeldAddresses]:
    """The addresses that containers hold, of every network."""
    rows = connection.execute("SELECT network_id, container_id, ipv4, ipv6 FROM endpoints")
    return [HeldAddresses(row["network_id"], row["container_id"], row["ipv4"], row["ipv6"]) for row in rows]


def save_held(connection: sqlite3.Connection, held: HeldAddresses) -> None:
    """Note what a container holds of a network, in place of what it held before. Raises sqlite3.IntegrityError if another holds it."""
    connection.execute(
        "INSERT INTO endpoints (network_id, container_id, ipv4, ipv6) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (network_id, container_id) DO UPDATE SET ipv4 = excluded.ipv4, ipv6 = excluded.ipv6",
        (held.network_id, held.container_id, held.ipv4, held.ipv6),
    )


def delete_held(connection: sqlite3.Connection, network_id: str, container_id: str) -> None:
    """The container holds nothing of the network any more. Idempotent."""
    connection.execute("DELETE FROM endpoints WHERE network_id = ? AND container_id = ?", (network_id, container_id))
