"""How a worker is started and fed: what it is given besides its order."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from support.needs import needs
from teul.errors import System
from teul.workers.client import Program, running_worker

pytestmark = needs("root")

PROGRAM = Program("layers", errors={"system": System}, death="the worker died", bug="a bug")


def _order(directory: Path) -> Any:
    limits = {"limit_bytes": 1 << 20, "limit_entries": 1, "trailing_bytes": 1 << 20}
    return {"job": "split", "parent_pid": os.getpid(), "root": str(directory), **limits}


async def test_a_worker_is_fed_a_megabyte_at_a_time(tmp_path: Path) -> None:
    """With a pipe of the usual 64 KiB, handing the bytes over costs more than hashing and writing them."""
    async with running_worker(PROGRAM, _order(tmp_path), stdin=asyncio.subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert fcntl.fcntl(worker.stdin.get_extra_info("pipe"), fcntl.F_GETPIPE_SZ) == 1 << 20


async def test_a_machine_may_refuse_the_large_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fcntl(2): EPERM, with many pipes or a smaller /proc/sys/fs/pipe-max-size; the worker is fed all the same."""

    def refuse(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("teul.workers.client.fcntl.fcntl", refuse)
    async with running_worker(PROGRAM, _order(tmp_path), stdin=asyncio.subprocess.PIPE) as worker:
        assert worker.stdin is not None
        worker.stdin.write(bytes(1024))
        worker.stdin.close()
        assert await worker.result() == {}


async def test_nothing_of_the_engines_environment_reaches_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """security: what is in there may be a password."""
    monkeypatch.setenv("TEUL_TEST_SECRET", "secret")
    async with running_worker(PROGRAM, _order(tmp_path), stdin=asyncio.subprocess.PIPE) as worker:
        # glibc reads its tunables where they stand, and leaves zeros between them.
        names = {entry.partition(b"=")[0] for entry in Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")}
        assert {name for name in names if name and not name.startswith(b"glibc.")} == {b"GLIBC_TUNABLES"}
