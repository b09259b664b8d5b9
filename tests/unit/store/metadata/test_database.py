"""Who may read the database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from teul.store.metadata.database import Database


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


def write_and_look(directory: Path) -> dict[str, int]:
    database = Database(str(directory / "teul.db"))
    try:
        database.transact_blocking(lambda connection: connection.execute("INSERT INTO volumes (name, record) VALUES ('v', '{}')"))
        return modes(directory)
    finally:
        database.close()


def test_only_the_engine_reads_the_database(tmp_path: Path) -> None:
    """security: containers' environments are in it, and with them whatever passwords people put there."""
    assert write_and_look(tmp_path) == {"teul.db": 0o600, "teul.db-wal": 0o600, "teul.db-shm": 0o600}


def test_a_database_that_others_could_read_is_closed(tmp_path: Path) -> None:
    """Together with the journal that a killed engine left beside it."""
    connection = sqlite3.connect(tmp_path / "teul.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE something (x)")
    assert modes(tmp_path) == {"teul.db": 0o644, "teul.db-wal": 0o644, "teul.db-shm": 0o644}
    try:
        assert write_and_look(tmp_path) == {"teul.db": 0o600, "teul.db-wal": 0o600, "teul.db-shm": 0o600}
    finally:
        connection.close()
