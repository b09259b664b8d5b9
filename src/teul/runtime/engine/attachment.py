"""The engine's end of one client's connection to a process's streams; the other end is the process's monitor."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import AsyncIterator

from teul.runtime.messages import Wants
from teul.wire import monitor as wire

_CHUNK_BYTES = 32 * 1024
_READ_BYTES = 64 * 1024


class Attachment:
    """Iterate over it for the process's output; `write` and `close_stdin` for its input. Made open or, before the process starts, pending.

    What the reader does not take waits in the monitor, so a slow reader loses nothing and holds up nobody.
    """

    def __init__(self, *, terminal: bool, wants: Wants) -> None:
        self.terminal = terminal
        self.wants = wants
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._frames = wire.FrameReader()
        self._received: deque[tuple[int, bytes]] = deque()
        self._ended = False
        self._input_cut = False

    @classmethod
    async def pending(cls, *, terminal: bool, wants: Wants) -> tuple[Attachment, socket.socket]:
        """An attachment to a process that is yet to start, and the monitor's end of it, to be handed over with the start."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        attachment = cls(terminal=terminal, wants=wants)
        try:
            await attachment._open(near)
        except BaseException:
            near.close()
            far.close()
            raise
        return attachment, far

    @classmethod
    async def connect(cls, path: str, *, terminal: bool, wants: Wants) -> Attachment:
        """Attach to a running process by its monitor's socket. Raises `OSError` when nobody listens there."""
        attachment = cls(terminal=terminal, wants=wants)
        await attachment._open(await connect_socket(path))
        assert attachment._writer is not None
        attachment._writer.write(wire.frame(wire.HELLO, json.dumps(wants).encode()))
        return attachment

    async def _open(self, connection: socket.socket) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=connection)

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        assert self._reader is not None
        while True:
            # Taken out one by one: whoever leaves the iteration finds the rest, and the end, when he comes back.
            while self._received and not self._ended:
                kind, payload = self._received.popleft()
                if kind == wire.EXITED:
                    self._ended = True  # the monitor waits until this end is closed
                elif kind in (wire.STDOUT, wire.STDERR):
                    yield kind, payload
            if self._ended:
                return
            try:
                data = await self._reader.read(_READ_BYTES)
            except ConnectionResetError:
                return
            if not data:
                return
            self._received.extend(self._frames.feed(data))

    async def write(self, data: bytes) -> None:
        """Write to the process's input; waits until there is room. What a process does not read any more is dropped."""
        assert self._writer is not None
        for at in range(0, len(data), _CHUNK_BYTES):
            self._writer.write(wire.frame(wire.STDIN, data[at : at + _CHUNK_BYTES]))
            try:
                await self._writer.drain()
            except ConnectionError:
                return

    async def close_stdin(self) -> None:
        """Tell the monitor that the client's input is at its end."""
        assert self._writer is not None
        if not self._writer.is_closing():
            self._writer.write(wire.frame(wire.STDIN))

    def cut_input(self) -> None:
        """Tell the monitor that the client's input broke off: this attachment's end is none of the process's input.

        A pipe has no sign for that but to bring nothing more. A container's process waits, and the next client that attaches goes on.
        Nobody can attach to an exec: it is hung up on with SIGHUP, as a shell is that loses its terminal, and its input stays open till
        its end.
        """
        assert self._writer is not None
        self._input_cut = True
        if self.wants.get("stdin") and not self._writer.is_closing():
            self._writer.write(wire.frame(wire.INPUT_CUT))

    async def close(self) -> None:
        """Detach; the process goes on. Where the process's input lives no longer than its first client, the input ends here, unless cut."""
        assert self._writer is not None
        if self.wants.get("stdin") and not self._input_cut:
            await self.close_stdin()
        self._writer.close()


async def connect_socket(path: str) -> socket.socket:
    """Connect to unix socket `path`, of any length, without blocking the loop. Raises `OSError`."""
    directory_fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        address = f"/proc/self/fd/{directory_fd}/{os.path.basename(path)}"
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory_fd)
    return connection
