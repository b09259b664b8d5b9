"""Mounts put into containers that run, and taken away, by a worker process in the container's mount namespace (`program.mounting`)."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from teul.errors import Conflict, InvalidParameter, System
from teul.oci.runtime_spec import IdMap
from teul.workers.client import Program, running_worker

if TYPE_CHECKING:
    from teul.workers.program.messages import AttachOrder, DetachOrder, DetachResult


class ContainerEnded(Conflict):
    """The container has ended before its mount namespace was entered; nothing was done."""


_PROGRAM = Program(
    "mounting",
    errors={"gone": ContainerEnded, "busy": Conflict, "invalid": InvalidParameter, "system": System},
    death="the worker that changes the container's mounts died",
    bug="internal error while changing the container's mounts",
)


async def attach_mount(pidfd: int, mount_fd: int, destination: str, *, id_map: IdMap | None, user: str) -> None:
    """Attach a detached mount at `destination`, which is made if need be, in the container of that process.

    `id_map` and `user` are as of `rootfs.View`. Both descriptors stay the caller's. Raises System, `ContainerEnded`.
    """
    order: AttachOrder = {
        "job": "attach",
        "parent_pid": os.getpid(),
        "pidfd": pidfd,
        "mount_fd": mount_fd,
        "destination": destination,
        "id_map": id_map,
        "user": user,
    }
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.DEVNULL, pass_fds=(pidfd, mount_fd)) as worker:
        await worker.result()


async def detach_mount(pidfd: int, destination: str, *, identity: tuple[int, int] | None, lazily: bool) -> bool:
    """Take away what is mounted at `destination` in the container of that process; False if nothing is.

    `identity` is device and inode of what was mounted there, None where that is not known. `lazily`: also what is in use. Raises
    Conflict, InvalidParameter (it is something else), System, `ContainerEnded`.
    """
    order: DetachOrder = {
        "job": "detach",
        "parent_pid": os.getpid(),
        "pidfd": pidfd,
        "destination": destination,
        "identity": list(identity) if identity is not None else None,
        "lazily": lazily,
    }
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.DEVNULL, pass_fds=(pidfd,)) as worker:
        result: DetachResult = await worker.result()
    return result["found"]
