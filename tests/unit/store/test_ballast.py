"""Room is kept where there is enough, given up once, and taken again."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from teul.store import ballast as module
from teul.store.ballast import BALLAST_BYTES, Ballast
from teul.store.metadata.database import Database, DiskFull


def test_it_weighs_something_until_it_is_given_up(tmp_path: Path) -> None:
    told: list[str] = []
    ballast = Ballast(str(tmp_path / "ballast"))
    ballast.notify(lambda: told.append("gone"))
    assert ballast.restore()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= BALLAST_BYTES
    assert ballast.release()
    assert told == ["gone"]
    assert not (tmp_path / "ballast").exists()
    assert not ballast.release(), "there is nothing left to give up"


def test_it_is_not_taken_from_the_last_room_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _path: BALLAST_BYTES)
    assert not Ballast(str(tmp_path / "ballast")).restore()
    assert not (tmp_path / "ballast").exists()


class _Disk:
    """Has no room until somebody makes some."""

    def __init__(self) -> None:
        self.is_full = True

    def write(self, connection: sqlite3.Connection) -> str:
        connection.execute("SELECT 1")
        if self.is_full:
            raise sqlite3.OperationalError("database or disk is full")
        return "written"

    def relieve(self) -> bool:
        self.is_full = False
        return True


def test_room_is_made_for_what_frees_some_and_for_nothing_else(tmp_path: Path) -> None:
    disk = _Disk()
    database = Database(str(tmp_path / "teul.db"), relieve=disk.relieve)
    try:
        with pytest.raises(DiskFull, match="no space left on device"):
            asyncio.run(database.transact(disk.write))
        assert disk.is_full
        assert asyncio.run(database.transact(disk.write, frees=True)) == "written"
    finally:
        database.close()
