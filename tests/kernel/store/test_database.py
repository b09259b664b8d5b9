"""The database on a disk that is full."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.needs import needs
from teul.store.metadata.database import Database, DiskFull

pytestmark = needs("root")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def insert(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("INSERT INTO volumes (name, record) VALUES (?, '{}')", (name,))


def names(database: Database) -> list[str]:
    return [
        row["name"]
        for row in database.transact_blocking(lambda connection: connection.execute("SELECT name FROM volumes ORDER BY rowid").fetchall())
    ]


def test_a_database_is_opened_where_there_is_no_room_for_its_log(disk: Path) -> None:
    """And read; and written to again when there is room. Nobody else could make that."""
    path = str(disk / "teul.db")
    with contextlib.closing(Database(path)) as database:
        database.transact_blocking(lambda connection: insert(connection, "before"))
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with contextlib.closing(Database(path)) as database:
        assert names(database) == ["before"]
        with pytest.raises(DiskFull):
            database.transact_blocking(lambda connection: insert(connection, "full"))
        filler.unlink()
        database.transact_blocking(lambda connection: insert(connection, "after"))
        assert names(database) == ["before", "after"]
    with contextlib.closing(Database(path)) as database:
        assert names(database) == ["before", "after"]
