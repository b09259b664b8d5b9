"""inotify(7): being told when files in a directory change."""

from __future__ import annotations

import ctypes
import os

from teul.linux.syscalls import check, libc

# sys/inotify.h
IN_MODIFY = 0x2
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400

_inotify_init1 = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, use_errno=True)(("inotify_init1", libc))
_inotify_add_watch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32, use_errno=True)(
    ("inotify_add_watch", libc)
)


def open_watch(path: str, mask: int) -> int:
    """A non-blocking descriptor that is readable when one of the events in `mask` happens in directory `path`. Raises `OSError`."""
    fd = check(_inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")
    try:
        check(_inotify_add_watch(fd, os.fsencode(path), mask), "inotify_add_watch", path)
    except OSError:
        os.close(fd)
        raise
    return fd
