"""Rows of `volumes`.

Every function takes the connection of a running transaction (`Database.transact`).
"""

from __future__ import annotations

import sqlite3

from teul.model.volume import Volume


def load_volumes(connection: sqlite3.Connection) -> list[Volume]:
    """The record of every volume, in no order."""
    return [Volume.decode(row["record"]) for row in connection.execute("SELECT record FROM volumes")]


def insert_volume(connection: sqlite3.Connection, volume: Volume) -> None:
    """Write the record of a new volume. Raises sqlite3.IntegrityError if there is one of that name."""
    connection.execute("INSERT INTO volumes (name, record) VALUES (?, ?)", (volume.name, volume.encode().decode()))


def delete_volume(connection: sqlite3.Connection, name: str) -> None:
    """Forget a volume. Idempotent."""
    connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
