"""The metadata database: SQLite in WAL mode, one writer thread, readers beside it.

What is not in the database does not exist: files without a record are swept when the engine starts. Every record lives in the
database and nowhere else. It is readable by its owner alone. SQLite's `user_version` counts the migrations that were applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from teul import failpoints
from teul.errors import Integrity, System
from teul.store.ballast import free_bytes
from teul.store.metadata.migrations import MIGRATIONS

T = TypeVar("T")


_FULL_TEXT = "database or disk is full"
_LITTLE_BYTES = 64 * 1024


class DiskFull(System):
    """There is no room for what is to be written."""

    def __init__(self, path: str) -> None:
        super().__init__(f"write {path}: no space left on device", hint="remove containers or images that are not needed any more")


class Database:
    """One SQLite file and the thread that owns its connection."""

    def __init__(self, path: str, *, relieve: Callable[[], bool] = lambda: False) -> None:
        """`relieve` is called when the disk is full and something must be written all the same; true if it has made room."""
        self._path = path
        self._relieve = relieve
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teul-metadata")
        try:
            self._connection = self._executor.submit(self._open).result()
        except BaseException:
            self._executor.shutdown()
            raise

    async def transact(self, work: Callable[[sqlite3.Connection], T], *, frees: bool = False) -> T:
        """Run `work` in one transaction on the database's thread and return its result.

        With `frees`, for what removes something or writes down what has happened, room is made for it on a full disk, and `work` is
        called again.
        Raises `DiskFull`.

        The transaction is committed whole or not at all, and runs to its end even if the caller is cancelled. A commit survives the
        engine; a power cut may take the last ones (`synchronous`, below).
        """
        loop = asyncio.get_running_loop()
        run = functools.partial(self._run, work)
        return await loop.run_in_executor(self._executor, self._relieved if frees else self._told, run)

    def transact_blocking(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `transact`, for code that runs outside of the event loop, as it does before the engine starts one."""
        return self._executor.submit(self._told, lambda: self._run(work)).result()

    def close(self) -> None:
        """Finish the transactions that are queued, then close the file."""
        self._executor.submit(self._connection.close).result()
        self._executor.shutdown()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._relieved(lambda: _connect(self._path))
        except DiskFull:
            # Not even for the index of the log, a file, which is kept in memory then: what is recorded can be read, and room be made.
            # Other processes cannot look into the database meanwhile.
            return self._told(lambda: _connect(self._path, is_alone=True))

    def _relieved(self, step: Callable[[], T]) -> T:
        try:
            return self._told(step)
        except DiskFull:
            if not self._relieve():
                raise
        return self._told(step)

    def _told(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if not self._is_full(error):
                raise
            raise DiskFull(self._path) from error

    def _is_full(self, error: sqlite3.OperationalError) -> bool:
        # Not for every file that it extends does SQLite say so: of its shared memory it says "disk I/O error".
        return str(error) == _FULL_TEXT or free_bytes(os.path.dirname(self._path)) < _LITTLE_BYTES

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            failpoints.reach("store.transaction.worked")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # on a full disk SQLite has rolled back by itself
                connection.execute("ROLLBACK")
            raise
        return result


def _connect(path: str, *, is_alone: bool = False) -> sqlite3.Connection:
    _close_to_others(path)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        if is_alone:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        # synchronous=NORMAL with a WAL: a killed engine loses nothing; a power cut may take the last transactions, and never an earlier one
        # without all that came after it.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")
        _migrate(connection, path)
    except BaseException:
        connection.close()  # or its locks would be in the way of the next try
        raise
    return connection


def _close_to_others(path: str) -> None:
    """Give the database to this user alone, whether it is there or not. SQLite gives the journals that it makes the database's own mode.

    security: containers' environments are in it, and whatever passwords people put there.
    """
    # By name, not by descriptor: closing one would drop the locks that this process holds on the file (POSIX, fcntl(2)).
    with contextlib.suppress(FileExistsError):
        os.mknod(path, 0o600)  # an empty file; its contents are SQLite's business
    for name in (path, f"{path}-wal", f"{path}-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.chmod(name, 0o600)


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise Integrity(
            f"{path} was written by a newer Teul (schema {version}, this one knows {len(MIGRATIONS)})",
            hint="install that version of Teul, or give this one another --root",
        )
    for number, migrate in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        migrate(connection)
        connection.execute(f"PRAGMA user_version={number}")
        connection.execute("COMMIT")
