"""The files of one volume, packed, unpacked and copied by a worker that sees nothing else (`workers.program.volumes`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from teul.errors import InvalidParameter, System
from teul.workers.client import Program, archiving_worker, feeding, running_worker

if TYPE_CHECKING:
    from teul.workers.program.messages import VolumeCloneOrder, VolumeExportOrder, VolumeImportOrder

Compression = Literal["", "gzip", "zstd"]

_PROGRAM = Program(
    "volumes",
    errors={"invalid": InvalidParameter, "system": System},
    death="the worker that works on the volume's files died",
    bug="internal error while working on the volume's files",
)


@asynccontextmanager
async def exported(path: str, compression: Compression) -> AsyncIterator[AsyncIterator[bytes]]:
    """An archive of all that is in the directory `path`, and of the directory itself. Raises `System`."""

    def order(data_fd: int) -> VolumeExportOrder:
        return {"job": "export-volume", "parent_pid": os.getpid(), "path": path, "data_fd": data_fd, "compression": compression}

    async with archiving_worker(_PROGRAM, order) as (worker, chunks):
        await worker.entered()
        yield chunks


async def unpack(target_fd: int, stage: str, stream: AsyncIterator[bytes]) -> None:
    """Unpack the archive that `stream` brings in the empty directory whose mount is `target_fd`; `stage` is a directory to mount at.

    Raises `InvalidParameter`, `System`, and what `stream` raises.
    """
    order: VolumeImportOrder = {"job": "import-volume", "parent_pid": os.getpid(), "target_fd": target_fd, "stage": stage}
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.PIPE, pass_fds=(target_fd,)) as worker:
        await worker.entered()
        async with feeding(worker, stream) as feed:
            await worker.result()
            await feed.finish()


async def copy(path: str, target_fd: int) -> None:
    """Copy all that is in the directory `path`, and what the directory is like, into the empty one whose mount is `target_fd`.

    Raises `System`.
    """
    order: VolumeCloneOrder = {"job": "clone-volume", "parent_pid": os.getpid(), "path": path, "target_fd": target_fd}
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.DEVNULL, pass_fds=(target_fd,)) as worker:
        await worker.result()
