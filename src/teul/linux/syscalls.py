"""libc, raw system calls and the one way their failures become `OSError`.

stdlib only and cheap to import: the keeper and every container's first process load this.
"""

from __future__ import annotations

import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)

# asm/unistd.h; numbers below 424 differ between architectures, numbers from there on are the same everywhere.
_MACHINE = os.uname().machine
_NAMES = (
    "pivot_root",
    "seccomp",
    "bpf",
    "capset",
    "capget",
    "keyctl",
    "setns",
    "unshare",
    "clone",
    "setsid",
    "ioctl",
    "ioprio_set",
    "rt_sigaction",
)
_NUMBERS = {
    "x86_64": dict(zip(_NAMES, (155, 317, 321, 126, 125, 250, 308, 272, 56, 112, 16, 251, 13), strict=True)),
    "aarch64": dict(zip(_NAMES, (41, 277, 280, 91, 90, 219, 268, 97, 220, 157, 29, 30, 134), strict=True)),
}
NR: dict[str, int] = {
    **_NUMBERS.get(_MACHINE, {}),
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}


def os_error(number: int, syscall: str, path: str | bytes | None = None) -> OSError:
    """An `OSError` that carries errno and says which call failed on what: ``mount `/proc`: Permission denied``."""
    name = os.fsdecode(path) if path is not None else None
    text = os.strerror(number)
    error = OSError(number, f"{syscall} `{name}`: {text}" if name is not None else f"{syscall}: {text}")
    error.filename = name
    return error


def check(result: int, syscall: str, path: str | bytes | None = None) -> int:
    """Return `result` of a libc call, or raise what errno says when `result` is negative."""
    if result < 0:
        raise os_error(ctypes.get_errno(), syscall, path)
    return result


_syscall_function = ctypes.CFUNCTYPE(
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    use_errno=True,
)(("syscall", libc))


class _Prototype:
    """A system call with C argument types fixed when the module loads: strings and structs pass without boxing by hand."""

    __slots__ = ("_function", "_name", "_number")

    def __init__(self, name: str, types: tuple[type, ...]) -> None:
        self._name = name
        self._number = NR.get(name)
        self._function = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, *types, use_errno=True)(("syscall", libc))

    def __call__(self, *args: object, path: str | bytes | None = None) -> int:
        if self._number is None:
            raise os_error(errno.ENOSYS, self._name, path)
        while True:
            result: int = self._function(self._number, *args)
            if result >= 0:
                return result
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise os_error(code, self._name, path)


def prototype(name: str, *types: type) -> _Prototype:
    """System call `name` taking `types`; calling it retries EINTR and raises `OSError`, with `path` in its text."""
    return _Prototype(name, types)


def syscall(name: str, *args: int | None, path: str | bytes | None = None) -> int:
    """Make system call `name` with up to six integer or pointer arguments (`ctypes.addressof` for structs).

    Retries EINTR, since ctypes does not. Raises `OSError`; ENOSYS too where the architecture's number is not known.
    """
    number = NR.get(name)
    if number is None:
        raise os_error(errno.ENOSYS, name, path)
    padded = (*args, *(0,) * (6 - len(args)))
    while True:
        result: int = _syscall_function(number, *padded)
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise os_error(code, name, path)
