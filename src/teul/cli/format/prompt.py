"""Answers of the user."""

from __future__ import annotations

import os

_LONGEST_LINE = 4096


def read_line(fd: int) -> str:
    """The next line of `fd`, without its end; nothing after it is consumed. Empty at the end of the input."""
    line = b""
    while len(line) < _LONGEST_LINE and (byte := os.read(fd, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode("utf-8", "surrogateescape").removesuffix("\r")
