"""The traffic between the user's standard streams and a hijacked connection.

One loop over poll(2) moves everything: input to the engine, output to stdout and stderr, and whatever else the caller watches
(signals). The loop never blocks on the connection: a process that does not read its input must not stop its output. It ends when
the engine closes the stream, when the user types the detach keys, or when a watcher says so.
"""

from __future__ import annotations

import os
import select

from teul.client.errors import ConnectionFailed, OutputFailed
from teul.wire.stdcopy import STDERR, STDOUT, SYSTEM_ERROR, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from teul.client.connection import HijackedStream
    from teul.wire.detach_keys import DetachKeys

_PIECE_BYTES = 64 * 1024


class Detached(Exception):
    """The user typed the detach keys; the process goes on."""


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, waiting where another process has made the descriptor non-blocking.

    Raises `BrokenPipeError` when the reader has left, and `OutputFailed` for what else there is.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputFailed(fd, error) from error


class Pump:
    """Moves bytes until the stream ends. A descriptor that is None is not attached: output for it is thrown away.

    `multiplexed` tells that the engine frames stdout and stderr (a container without a terminal). `detach` looks through the input.
    """

    def __init__(
        self,
        stream: HijackedStream,
        *,
        stdin_fd: int | None = None,
        stdout_fd: int | None = None,
        stderr_fd: int | None = None,
        multiplexed: bool = True,
        detach: DetachKeys | None = None,
    ) -> None:
        self._stream = stream
        self._stdin_fd = stdin_fd
        self._output_fds = {STDOUT: stdout_fd, STDERR: stderr_fd}
        self._demultiplexer = Demultiplexer() if multiplexed else None
        self._detach = detach
        self._pending = b""
        self._input_ended = False
        self._watched: dict[int, Callable[[], bool]] = {}

    def watch(self, fd: int, callback: Callable[[], bool]) -> None:
        """Call `callback` whenever `fd` is readable; the pump ends when it returns True."""
        self._watched[fd] = callback

    def run(self) -> None:
        """Move everything. Raises `Detached`, and `ConnectionFailed` when the engine reports a failure in the stream."""
        self._stream.socket.setblocking(False)
        self._write_output(self._stream.leftover)
        if self._stdin_fd is None:
            self._send()
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Wait for something to do and do it; False at the end."""
        stream_fd = self._stream.fileno()
        poller = select.poll()
        poller.register(stream_fd, select.POLLIN | (select.POLLOUT if self._pending or self._stream.unsent else 0))
        if self._stdin_fd is not None and not self._pending:
            poller.register(self._stdin_fd, select.POLLIN)
        for fd in self._watched:
            poller.register(fd, select.POLLIN)
        ready = dict(poller.poll())
        for fd, callback in self._watched.items():
            if fd in ready and callback():
                return False
        if ready.get(stream_fd, 0) & ~select.POLLOUT and not self._receive():
            return False
        if ready.get(stream_fd, 0) & select.POLLOUT:
            self._send()
        if self._stdin_fd is not None and self._stdin_fd in ready:
            self._read_input(self._stdin_fd)
        return True

    def _receive(self) -> bool:
        try:
            data = self._stream.socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False  # the engine died; the caller that waits for the exit status will say so
        self._write_output(data)
        return bool(data)

    def _write_output(self, data: bytes) -> None:
        if self._demultiplexer is None:
            self._write(STDOUT, data)
            return
        for stream, piece in self._demultiplexer.feed(data):
            if stream == SYSTEM_ERROR:
                raise ConnectionFailed(f"error from daemon in stream: {piece.decode('utf-8', 'replace')}")
            self._write(stream, piece)

    def _write(self, stream: int, data: bytes) -> None:
        fd = self._output_fds.get(stream)
        if fd is not None:
            write_all(fd, data)

    def _read_input(self, stdin_fd: int) -> None:
        try:
            data = os.read(stdin_fd, _PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a closed or unreadable stdin has ended
        if data:
            self._pending += self._detach.feed(data) if self._detach is not None else data
            if self._detach is not None and self._detach.detached:
                raise Detached
        else:
            self._stdin_fd = None
        self._send()

    def _send(self) -> None:
        """Send as much input as there is room for. After the end of the input, half-close."""
        try:
            self._stream.flush()
            while self._pending:
                self._pending = self._pending[self._stream.socket.send(self._pending) :]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # The process reads no more input; its output may still come.
            self._pending = b""
            self._stdin_fd = None
            return
        if self._stdin_fd is None and not self._input_ended:
            self._input_ended = True
            self._stream.close_write()
