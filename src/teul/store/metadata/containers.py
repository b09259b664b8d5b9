"""Rows of the `containers` table."""

from __future__ import annotations

import sqlite3

from teul.model.container import Container


def all_containers(connection: sqlite3.Connection) -> list[Container]:
    """The record of every container, in no order."""
    return [Container.decode(row["record"]) for row in connection.execute("SELECT record FROM containers")]


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


def delete(connection: sqlite3.Connection, container_id: str) -> None:
    """Remove the container's record. Idempotent."""
    connection.execute("DELETE FROM containers WHERE id = ?", (container_id,))
