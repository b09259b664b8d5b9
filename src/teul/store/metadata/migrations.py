"""Ordered schema changes. A migration that was released is never edited: the next change is a new function at the end."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable


def _first_schema(connection: sqlite3.Connection) -> None:
    statements = (
        # One row per blob in blobs/<algorithm>/<hex>; the row is written after the file is whole.
        "CREATE TABLE blobs (digest TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, created_at_ns INTEGER NOT NULL)",
        # One row per unpacked layer in snapshots/<chain_id hex>.
        """CREATE TABLE snapshots (
            chain_id TEXT PRIMARY KEY, parent TEXT REFERENCES snapshots(chain_id), diff_id TEXT NOT NULL,
            size_bytes INTEGER NOT NULL, created_at_ns INTEGER NOT NULL)""",
        # image_id is the digest of the config blob. layers is the JSON list of layer descriptors, bottom first.
        """CREATE TABLE images (
            image_id TEXT PRIMARY KEY, manifest_digest TEXT NOT NULL, chain_id TEXT, size_bytes INTEGER NOT NULL,
            layers TEXT NOT NULL, created_at_ns INTEGER NOT NULL)""",
        # reference is canonical (`docker.io/library/busybox:latest`).
        "CREATE TABLE tags (reference TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(image_id), tagged_at_ns INTEGER NOT NULL)",
        # record is the JSON of teul.model.container.Container.
        "CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image_id TEXT NOT NULL, record TEXT NOT NULL)",
        # record is the JSON of teul.model.network.Network.
        "CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL)",
        # One row per address that a container holds.
        """CREATE TABLE endpoints (
            network_id TEXT NOT NULL REFERENCES networks(id) ON DELETE CASCADE, container_id TEXT NOT NULL,
            ipv4 TEXT, ipv6 TEXT, PRIMARY KEY (network_id, container_id), UNIQUE (network_id, ipv4), UNIQUE (network_id, ipv6))""",
        # record is the JSON of teul.model.volume.Volume.
        "CREATE TABLE volumes (name TEXT PRIMARY KEY, record TEXT NOT NULL)",
    )
    for statement in statements:
        connection.execute(statement)


def _endpoints_by_network(connection: sqlite3.Connection) -> None:
    """A container's record had one `endpoint` or null; it has `endpoints`, by the network's name."""
    for row in connection.execute("SELECT id, record FROM containers").fetchall():
        record = json.loads(row["record"])
        endpoint = record.pop("endpoint", None)
        record["endpoints"] = {endpoint["network_name"]: endpoint} if endpoint else {}
        connection.execute("UPDATE containers SET record = ? WHERE id = ?", (json.dumps(record), row["id"]))


def _images_by_target(connection: sqlite3.Connection) -> None:
    """An image was known by the digest of its config; it is by that of its manifest. Containers and names follow.

    Of one that was deleted while containers stood on it nothing but the config was kept: it goes on by the config's digest, of that type.
    """
    rows = connection.execute("SELECT image_id, manifest_digest, created_at_ns FROM images ORDER BY rowid").fetchall()
    tags = connection.execute("SELECT reference, image_id, tagged_at_ns FROM tags ORDER BY rowid").fetchall()
    ids = {row["image_id"]: row["manifest_digest"] or row["image_id"] for row in rows}
    connection.execute("DROP TABLE tags")
    connection.execute("DROP TABLE images")
    connection.execute(
        """CREATE TABLE images (
            image_id TEXT PRIMARY KEY, media_type TEXT NOT NULL, deleted INTEGER NOT NULL, created_at_ns INTEGER NOT NULL)"""
    )
    connection.execute(
        "CREATE TABLE tags (reference TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(image_id), tagged_at_ns INTEGER NOT NULL)"
    )
    for row in rows:
        deleted = not row["manifest_digest"]
        media_type = "application/vnd.oci.image.config.v1+json" if deleted else ""
        connection.execute("INSERT INTO images VALUES (?, ?, ?, ?)", (ids[row["image_id"]], media_type, deleted, row["created_at_ns"]))
    for tag in tags:
        connection.execute("INSERT INTO tags VALUES (?, ?, ?)", (tag["reference"], ids[tag["image_id"]], tag["tagged_at_ns"]))
    for row in connection.execute("SELECT id, image_id, record FROM containers").fetchall():
        image_id = ids.get(row["image_id"], row["image_id"])
        connection.execute("UPDATE containers SET image_id = ? WHERE id = ?", (image_id, row["id"]))
        try:
            record = {**json.loads(row["record"]), "image_id": image_id}
        except (ValueError, TypeError):
            continue  # a record that cannot be read is shown by its row alone
        connection.execute("UPDATE containers SET record = ? WHERE id = ?", (json.dumps(record), row["id"]))


def _volume_mounts(connection: sqlite3.Connection) -> None:
    """What plug-ins have been asked to mount, and not yet to unmount: a row is there from before the one to after the other."""
    connection.execute(
        """CREATE TABLE volume_mounts (
            id TEXT PRIMARY KEY, volume TEXT NOT NULL, driver TEXT NOT NULL, container_id TEXT NOT NULL, destination TEXT NOT NULL)"""
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first_schema, _endpoints_by_network, _images_by_target, _volume_mounts)
