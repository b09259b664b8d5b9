"""Reading and writing the small files of cgroupfs: bare descriptors, since this is on the way of every container start."""

from __future__ import annotations

import errno
import os


def read(path: str) -> str:
    """The whole text of a control file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode()


def write(path: str, value: str) -> None:
    """Write `value` in one write(2), as cgroupfs wants it. The `OSError` names the file and the value."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _write_error(error, path, value) from None
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise _write_error(error, path, value) from None
    finally:
        os.close(fd)


def keyed(text: str, key: str) -> int:
    """The number beside `key` in a flat keyed file such as memory.events; 0 where the kernel does not list it."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def _write_error(error: OSError, path: str, value: str) -> OSError:
    number = error.errno or errno.EIO
    described = OSError(number, f"write `{value}` to `{path}`: {os.strerror(number)}")
    described.filename = path
    return described
