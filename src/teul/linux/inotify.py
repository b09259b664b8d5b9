"""inotify(7): being told when files in directories change. A user may have 128 instances (`max_user_instances`), and each many watches."""

from __future__ import annotations

import ctypes
import os
import struct

from teul.linux.syscalls import check, libc

# sys/inotify.h
IN_MODIFY = 0x2
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000

_READ_BYTES = 1 << 16
# struct inotify_event: wd, mask, cookie, and the length of the name that follows.
_EVENT = struct.Struct("iIII")

_inotify_init1 = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, use_errno=True)(("inotify_init1", libc))
_inotify_add_watch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32, use_errno=True)(
    ("inotify_add_watch", libc)
)
_inotify_rm_watch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, use_errno=True)(("inotify_rm_watch", libc))


def open_instance() -> int:
    """A non-blocking descriptor that is readable when something happened to what is watched by it. Raises `OSError`."""
    return check(_inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")


def add_watch(fd: int, path: str, mask: int) -> int:
    """Have the instance tell of the events in `mask` in directory `path`; returns the watch's number, which is the directory's own.

    Looks the path up, so it may block. Raises `OSError`.
    """
    return check(_inotify_add_watch(fd, os.fsencode(path), mask), "inotify_add_watch", path)


def remove_watch(fd: int, watch: int) -> None:
    """Undo `add_watch`. Raises `OSError`, EINVAL if the directory is gone, and the watch with it."""
    check(_inotify_rm_watch(fd, watch), "inotify_rm_watch")


def read_events(fd: int) -> list[tuple[int, int]]:
    """What happened: pairs of a watch's number and the events, none if nothing did. IN_Q_OVERFLOW, of no watch, says that some are lost."""
    try:
        data = os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return []
    events = []
    at = 0
    while at < len(data):
        watch, mask, _cookie, name_bytes = _EVENT.unpack_from(data, at)
        events.append((watch, mask))
        at += _EVENT.size + name_bytes
    return events
