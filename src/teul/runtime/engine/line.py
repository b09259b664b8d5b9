"""The engine's line to its keeper: requests go out one after the other, and a keeper that is silent is asked whether it is there.

A keeper may stand still: in a write to a disk or a network file system that hangs, or stopped by somebody. Then nothing of the engine's may
wait for it for ever, and nothing is lost: its containers run on, and when it goes on, so does everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping

from teul.aio import run_blocking
from teul.linux.process import open_pidfd
from teul.linux.seqpacket import send_message
from teul.runtime.messages import STAYING, Question, Request


class KeeperLine:
    """A keeper's process, and the connection to it. To be made on the running loop, and used from there only."""

    def __init__(self, keeper: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.keeper = keeper
        self._connection = connection
        self._connection.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._writable: asyncio.Future[None] | None = None
        self._answers: set[asyncio.Future[None]] = set()
        self._last_word: asyncio.Future[bytes] = self._loop.create_future()  # empty when the keeper is just gone
        self._loop.add_reader(connection.fileno(), self._hear)

    async def send(self, request: Request, descriptors: list[int]) -> None:
        """Hand a request over; returns when the keeper is sure to find it. Waits while too many wait already. Raises `OSError`.

        It is sent in one step of the loop, so that no descriptor can change its meaning meanwhile.
        """
        await self._send(request, descriptors)

    async def ask(self) -> None:
        """Return when the keeper says anything, or is gone. The caller sets the deadline. Raises `OSError`."""
        answer: asyncio.Future[None] = self._loop.create_future()
        self._answers.add(answer)
        question: Question = {"question": "are you there"}
        try:
            if not self._last_word.done():
                await self._send(question, [])
                await answer
        finally:
            self._answers.discard(answer)

    async def part(self) -> None:
        """Let the keeper go; returns when it has ended, or said that it stays with what it watches over. The caller sets the deadline."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was killed; its end is read already, or will be
        if await asyncio.shield(self._last_word) == STAYING:
            return
        await self._end_of_keeper()

    def close(self) -> None:
        """Give the connection up. What still waits for the keeper finds that out."""
        if self._connection.fileno() < 0:
            return
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._connection.close()
        _wake(self._writable)
        self._end_of_words(b"")

    async def _send(self, message: Mapping[str, object], descriptors: list[int]) -> None:
        async with self._sending:
            while True:
                try:
                    send_message(self._connection, message, descriptors)
                except BlockingIOError:
                    await self._wait_for_room()
                else:
                    return

    async def _wait_for_room(self) -> None:
        fd = self._connection.fileno()
        self._writable = self._loop.create_future()
        self._loop.add_writer(fd, _wake, self._writable)
        try:
            await self._writable
        finally:
            self._writable = None
            if self._connection.fileno() == fd:
                self._loop.remove_writer(fd)

    def _hear(self) -> None:
        try:
            word = self._connection.recv(64)
        except BlockingIOError:
            return
        except ConnectionResetError:
            word = b""
        for answer in self._answers:
            _wake(answer)
        if word in {b"", STAYING}:
            self._loop.remove_reader(self._connection.fileno())
            self._end_of_words(word)

    def _end_of_words(self, word: bytes) -> None:
        for answer in self._answers:
            _wake(answer)
        if not self._last_word.done():
            self._last_word.set_result(word)

    async def _end_of_keeper(self) -> None:
        """Wait for the end of the process, and reap it."""
        # It may be gone: an earlier caller's thread, which nobody waits for any more, is reaping it.
        with contextlib.suppress(ProcessLookupError):
            if self.keeper.returncode is None:
                await self._await_end(open_pidfd(self.keeper.pid))
        await run_blocking(self.keeper.wait)

    async def _await_end(self, pidfd: int) -> None:
        """Wait until the process has ended; closes the descriptor."""
        ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(pidfd, _wake, ended)
        try:
            await ended
        finally:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
