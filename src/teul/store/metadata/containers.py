"""Rows of the `containers` table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from teul.model.container import Container


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A container whose record cannot be decoded, and what its row says all the same."""

    id: str
    name: str
    image_id: str
    reason: str


def all_containers(connection: sqlite3.Connection) -> list[Container]:
    """The record of every container, in no order; without those that cannot be decoded."""
    return [row for row in _read(connection) if isinstance(row, Container)]


def damaged_containers(connection: sqlite3.Connection) -> list[DamagedRow]:
    """Those whose record cannot be decoded."""
    return [row for row in _read(connection) if isinstance(row, DamagedRow)]


def _read(connection: sqlite3.Connection) -> Iterator[Container | DamagedRow]:
    # As bytes: sqlite3 raises for a text that is not UTF-8, and the other rows would go with it.
    for row in connection.execute("SELECT id, name, image_id, CAST(record AS BLOB) AS record FROM containers"):
        try:
            yield Container.decode(row["record"])
        except (msgspec.MsgspecError, ValueError) as error:
            yield DamagedRow(row["id"], row["name"], row["image_id"], f"its record cannot be read: {error}")


def insert(connection: sqlite3.Connection, container: Container) -> None:
    """Add the record of a new container. Raises `sqlite3.IntegrityError` when its id or name is taken."""
    connection.execute(
        "INSERT INTO containers (id, name, image_id, record) VALUES (?, ?, ?, ?)",
        (container.id, container.name, container.image_id, container.encode().decode()),
    )


def update(connection: sqlite3.Connection, container: Container) -> None:
    """Replace the container's record, and its name with it. Raises `sqlite3.IntegrityError` when that name is another's."""
    connection.execute(
        "UPDATE containers SET name = ?, record = ? WHERE id = ?", (container.name, container.encode().decode(), container.id)
    )


def update_together(connection: sqlite3.Connection, containers: Sequence[Container]) -> None:
    """As `update`, of several containers, which may exchange their names."""
    for container in containers:
        # No container is called that: names are unique after each statement.
        connection.execute("UPDATE containers SET name = ? WHERE id = ?", (f"/{container.id}", container.id))
    for container in containers:
        update(connection, container)


def delete(connection: sqlite3.Connection, container_id: str) -> None:
    """Remove the container's record. Idempotent."""
    connection.execute("DELETE FROM containers WHERE id = ?", (container_id,))
