"""What the engine sends to a keeper is what it meant when it decided to."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from teul.aio import Tasks, run_blocking
from teul.runtime.engine.process import Process
from teul.runtime.engine.supervisor import Supervisor
from teul.runtime.messages import Launch, Request


def file_with(content: bytes) -> int:
    fd = os.memfd_create("process", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


class SlowSupervisor(Supervisor):
    """Its keeper has to be started first, and meanwhile the process ends."""

    process: Process
    sent: list[bytes]
    descriptors: list[int]

    async def _send(self, request: Request, descriptors: list[int]) -> None:
        self.descriptors = descriptors
        numbers = [self.process.pidfd, *self.process.kept.values()]
        self.process.forget()
        taken = await run_blocking(file_with, b"another container's")
        for number in numbers:
            os.dup2(taken, number)
        self.sent = [await run_blocking(os.pread, fd, 100, 0) for fd in descriptors[1:]]
        for fd in {taken, *numbers}:
            os.close(fd)


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    near, far = socket.socketpair()
    made = Process("/bundle", near, terminal=False, lost=lambda _process: None)
    yield made
    made.forget()
    far.close()


async def test_a_monitor_takes_over_the_process_that_was_meant(process: Process) -> None:
    """security: the descriptors are copied before anything is waited for."""
    process.pidfd = file_with(b"pidfd")
    process.kept = {"stdout": file_with(b"stdout")}
    supervisor = SlowSupervisor(Tasks())
    supervisor.process = process
    supervisor._remember(process, cast("Launch", {"directory": "/bundle"}))
    near, far = socket.socketpair()
    await supervisor._take_over(process, far)
    near.close()
    assert supervisor.sent == [b"pidfd", b"stdout"]
    for fd in supervisor.descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


async def test_a_pid_is_held_until_its_process_is_reaped(process: Process) -> None:
    process.pidfd = os.pidfd_open(os.getpid())
    assert process.holds_pid()
    process.forget()
    assert not process.holds_pid()
