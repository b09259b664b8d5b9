"""Rows of `volumes` and of `volume_mounts`.

Every function takes the connection of a running transaction (`Database.transact`).
"""

from __future__ import annotations

import sqlite3

from teul.model.volume import Volume, VolumeMount


def load_volumes(connection: sqlite3.Connection) -> list[Volume]:
    """The record of every volume, in no order."""
    return [Volume.decode(row["record"]) for row in connection.execute("SELECT record FROM volumes")]


def insert_volume(connection: sqlite3.Connection, volume: Volume) -> None:
    """Write the record of a new volume. Raises sqlite3.IntegrityError if there is one of that name."""
    connection.execute("INSERT INTO volumes (name, record) VALUES (?, ?)", (volume.name, volume.encode().decode()))


def delete_volume(connection: sqlite3.Connection, name: str) -> None:
    """Forget a volume. Idempotent."""
    connection.execute("DELETE FROM volumes WHERE name = ?", (name,))


def load_mounts(connection: sqlite3.Connection) -> list[VolumeMount]:
    """What plug-ins have been asked to mount, oldest first."""
    return [VolumeMount(**dict(row)) for row in connection.execute("SELECT * FROM volume_mounts ORDER BY rowid")]


def insert_mount(connection: sqlite3.Connection, mount: VolumeMount) -> None:
    """Note that a plug-in is about to be asked for a mount."""
    connection.execute(
        "INSERT INTO volume_mounts (id, volume, driver, container_id, destination) VALUES (?, ?, ?, ?, ?)",
        (mount.id, mount.volume, mount.driver, mount.container_id, mount.destination),
    )


def delete_mount(connection: sqlite3.Connection, mount_id: str) -> None:
    """Forget a mount. Idempotent."""
    connection.execute("DELETE FROM volume_mounts WHERE id = ?", (mount_id,))
