"""The rows of images: `images`, `tags`, `blobs`, `snapshots`. All SQL about them is here.

Every function takes the connection of a running transaction (`Database.transact`). A row is written after the files that it speaks of are
on the disk under their names, and deleted before the files go, so that a file without a row is waste and a row without its file is damage.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from teul.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image, by the digest of the index or manifest that it is; `media_type` is "" where that document alone says it.

    `deleted`: while containers still stand on its layers.
    """

    image_id: Digest
    media_type: str
    deleted: bool
    stored_at_ns: int


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """An unpacked layer; `parent` is the chain id below it."""

    chain_id: Digest
    parent: Digest | None
    diff_id: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TagRow:
    """A name of an image. `reference` is canonical, with a tag or a digest; `tagged_at_ns` is 0 for a name that came with the image."""

    reference: str
    image_id: Digest
    tagged_at_ns: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Every row of the four tables; `blobs` has the size in bytes of each."""

    images: list[ImageRow]
    tags: list[TagRow]
    snapshots: list[SnapshotRow]
    blobs: dict[Digest, int]


def read_all(connection: sqlite3.Connection) -> Rows:
    """Read all four tables; images, tags and snapshots in the order in which they were inserted."""
    return Rows(
        images=[_image(row) for row in connection.execute("SELECT * FROM images ORDER BY rowid")],
        tags=[
            TagRow(row["reference"], Digest(row["image_id"]), row["tagged_at_ns"])
            for row in connection.execute("SELECT * FROM tags ORDER BY rowid")
        ],
        snapshots=[
            SnapshotRow(Digest(row["chain_id"]), _optional(row["parent"]), Digest(row["diff_id"]), row["size_bytes"])
            for row in connection.execute("SELECT * FROM snapshots ORDER BY rowid")
        ],
        blobs={Digest(row["digest"]): row["size_bytes"] for row in connection.execute("SELECT digest, size_bytes FROM blobs")},
    )


def insert_blobs(connection: sqlite3.Connection, blobs: Iterable[tuple[Digest, int]], now_ns: int) -> None:
    """Insert (digest, size in bytes) of each blob; rows that are there already stay as they are."""
    connection.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", [(str(digest), size, now_ns) for digest, size in blobs])


def insert_snapshots(connection: sqlite3.Connection, snapshots: Iterable[SnapshotRow], now_ns: int) -> None:
    """Insert rows of layers, given parents before children; rows that are there already stay as they are."""
    connection.executemany(
        "INSERT OR IGNORE INTO snapshots VALUES (?, ?, ?, ?, ?)",
        [(str(row.chain_id), _text(row.parent), str(row.diff_id), row.size_bytes, now_ns) for row in snapshots],
    )


def save_image(connection: sqlite3.Connection, row: ImageRow) -> None:
    """Insert the image's row, or replace it; the image's tags stay."""
    connection.execute(
        """INSERT INTO images VALUES (?, ?, ?, ?) ON CONFLICT (image_id) DO UPDATE
           SET media_type = excluded.media_type, deleted = excluded.deleted, created_at_ns = excluded.created_at_ns""",
        (str(row.image_id), row.media_type, row.deleted, row.stored_at_ns),
    )


def save_tag(connection: sqlite3.Connection, row: TagRow) -> None:
    """Point the name at the image, wherever it pointed before."""
    connection.execute(
        """INSERT INTO tags VALUES (?, ?, ?) ON CONFLICT (reference) DO UPDATE
           SET image_id = excluded.image_id, tagged_at_ns = excluded.tagged_at_ns""",
        (row.reference, str(row.image_id), row.tagged_at_ns),
    )


def delete_tags(connection: sqlite3.Connection, references: Iterable[str]) -> None:
    connection.executemany("DELETE FROM tags WHERE reference = ?", [(reference,) for reference in references])


def delete_image(connection: sqlite3.Connection, image_id: Digest) -> None:
    """Delete the image's row, after the rows of its tags."""
    connection.execute("DELETE FROM images WHERE image_id = ?", (str(image_id),))


def delete_snapshots(connection: sqlite3.Connection, chain_ids: Iterable[Digest]) -> None:
    """Delete the rows of layers, given children before parents."""
    connection.executemany("DELETE FROM snapshots WHERE chain_id = ?", [(str(chain_id),) for chain_id in chain_ids])


def delete_blobs(connection: sqlite3.Connection, digests: Iterable[Digest]) -> None:
    connection.executemany("DELETE FROM blobs WHERE digest = ?", [(str(digest),) for digest in digests])


def _image(row: sqlite3.Row) -> ImageRow:
    return ImageRow(Digest(row["image_id"]), row["media_type"], bool(row["deleted"]), row["created_at_ns"])


def _optional(text: str | None) -> Digest | None:
    return Digest(text) if text else None


def _text(digest: Digest | None) -> str | None:
    return str(digest) if digest is not None else None
