"""A person at a terminal: runs a program on a pty, waits for what it shows, types, resizes the window."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from support.polling import eventually


class Terminal:
    """A program with a controlling terminal of its own. `output` is all that it has shown so far, as text."""

    def __init__(self, argv: Sequence[str], *, environment: Mapping[str, str], rows: int = 24, columns: int = 80) -> None:
        self._master_fd, slave_fd = pty.openpty()
        self.resize(rows, columns)
        self._was_resized = False
        self.output = ""
        self._seen = 0
        self._closed = False
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=slave_fd,
                stdout=slave_fd,
                stderr=slave_fd,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_take_terminal,  # noqa: PLW1509 - Popen has no other way to give the child a controlling terminal
            )
        finally:
            os.close(slave_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master_fd)

    def expect(self, pattern: str, *, timeout_seconds: float = 15.0) -> str:
        """Wait until what was shown since the last `expect` matches `pattern`; return the match."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            match = re.compile(pattern, re.MULTILINE).search(self.output, self._seen)
            if match:
                self._seen = match.end()
                return match.group()
            if self._read(min(0.5, deadline - time.monotonic())):
                continue
            if not self._closed and time.monotonic() < deadline:
                self._nudge()
                continue
            raise AssertionError(f"the terminal never showed {pattern!r}; it showed {self.output!r}")

    def send(self, text: str) -> None:
        os.write(self._master_fd, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._was_resized = True

    def _nudge(self) -> None:
        """Say again that the size changed: a program that was only just starting to listen has missed the first signal."""
        if self._was_resized and self._process.poll() is None:
            self._process.send_signal(signal.SIGWINCH)

    def expect_raw(self, *, timeout_seconds: float = 15.0) -> None:
        """Wait until the program has put its terminal into raw mode: what is typed earlier is echoed and eaten by the terminal itself."""
        # kernel: the termios of a pty's master are those of its other end.
        eventually(lambda: not termios.tcgetattr(self._master_fd)[3] & termios.ICANON, "raw mode", timeout_seconds=timeout_seconds)

    def wait(self, *, timeout_seconds: float = 20.0) -> int:
        """Read until the program ends and return its exit code (-signal when a signal ended it)."""
        deadline = time.monotonic() + timeout_seconds
        while self._read(deadline - time.monotonic()):
            continue
        try:
            return self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the program on the terminal does not end; it showed {self.output!r}") from None

    def _read(self, timeout_seconds: float) -> bool:
        """Take in what comes next; False at the end of the output or when nothing comes in time."""
        if self._closed or not select.select([self._master_fd], [], [], max(0.0, timeout_seconds))[0]:
            return False
        try:
            data = os.read(self._master_fd, 65536)
        except OSError:
            # kernel: reading a pty master whose other end is closed fails with EIO.
            data = b""
        self._closed = not data
        self.output += data.decode(errors="replace")
        return bool(data)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
