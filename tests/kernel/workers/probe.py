"""A worker that has been taken over: the order is carried out up to the job itself, confinement included, and then it attacks.

`order["probe"]` has what the test has prepared, and under "without" the defences that are left out, so that the others have to hold alone.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from teul.linux import mounts, process
from teul.linux.syscalls import libc
from teul.workers.program import changed, confine, layers, report, rootfs, view

_syscall = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, *(ctypes.c_void_p,) * 6, use_errno=True)(("syscall", libc))
# Where each job begins, once it is shut in.
_JOBS = ((layers, "_unpack"), (layers, "_split"), (rootfs, "_describe"), (rootfs, "_check_writable"), (changed, "list_changes"))


def main(order_text: str) -> None:
    """In place of the program's own `main`."""
    order = json.loads(order_text)
    probe = order["probe"]
    _leave_out(probe["without"])

    def attack(*arguments: Any, **_options: Any) -> NoReturn:
        found = _foreign_call() if probe["foreign"] else _attack(probe)
        if order["job"] == "changes":
            upper_fd, lower_fds = arguments
            for fd in (upper_fd, *lower_fds):
                found[f"out of directory {fd}"] = _try(lambda: os.open("../" * 8 + "etc/passwd", os.O_RDONLY, dir_fd=fd))  # noqa: B023
        report.report({"done": found})  # type: ignore[typeddict-item]
        os._exit(0)

    for module, name in _JOBS:
        setattr(module, name, attack)
    (layers if order["job"] in ("unpack", "split") else rootfs).main(order_text)


def _leave_out(defences: list[str]) -> None:
    changes: dict[str, tuple[tuple[Any, str, Any], ...]] = {
        "filter": ((confine, "install_filter", lambda *_: None),),
        "namespaces": ((confine, "_unshare", _unshare_mounts_only), (confine, "report", lambda _line: None)),
        "capabilities": ((confine, "keep_capabilities", lambda _names: None),),
        "nodev": tuple((module, "MOUNT_ATTRIBUTES", confine.MOUNT_ATTRIBUTES & ~mounts.MOUNT_ATTR_NODEV) for module in (confine, view)),
    }
    for name in ("net", "pid"):
        changes[f"{name} namespace"] = ((confine, "unshare", _kernel_without(name, errno.EINVAL)),)
    changes["room for namespaces"] = ((confine, "unshare", _kernel_without("net", errno.ENOSPC)),)
    for defence in defences:
        for module, name, value in changes[defence]:
            setattr(module, name, value)


def _kernel_without(name: str, number: int) -> Callable[[int], None]:
    def unshare(flags: int) -> None:
        if flags & confine._OPTIONAL[name]:
            raise OSError(number, os.strerror(number))
        process.unshare(flags)

    return unshare


def _unshare_mounts_only() -> list[str]:
    process.unshare(process.CLONE_NEWNS)
    return ["pid"]


def _attack(probe: dict[str, Any]) -> dict[str, str]:
    """What each attack came to: the name of an errno, or "done" for one that did what it wanted."""
    found = {"own pid": str(os.getpid())}
    for name, kind, major, minor in probe["devices"]:
        found[f"make {name}"] = _try(lambda: os.mknod(f"new-{name}", kind | 0o600, os.makedev(major, minor)))  # noqa: B023
        found[f"open the made {name}"] = _try(lambda: os.open(f"new-{name}", os.O_WRONLY))  # noqa: B023
        found[f"open {name}"] = _try(lambda: os.open(f"/{name}", os.O_WRONLY))  # noqa: B023
        found[f"read {name}"] = _try(lambda: os.open(f"/{name}", os.O_RDONLY))  # noqa: B023
    found["see /proc"] = _try(lambda: os.stat("/proc/self"))
    found["out by .."] = _try(lambda: os.open("../" * 8 + "etc/passwd", os.O_RDONLY))
    found["out by a symlink"] = _try(lambda: os.open("/outward", os.O_RDONLY))
    found["out by a symlink to a directory"] = _try(lambda: os.open("/outward-directory/passwd", os.O_RDONLY))
    found["signal the engine"] = _try(lambda: os.kill(probe["engine"], 0))
    found["signal the first process"] = _try(lambda: os.kill(1, 0))
    found["connect to the host"] = _try(lambda: _connect(socket.AF_INET, ("127.0.0.1", probe["port"])))
    found["connect to an abstract socket"] = _try(lambda: _connect(socket.AF_UNIX, "\0" + probe["abstract"]))
    found["load a module of the root's"] = _try(lambda: __import__("teul_planted"))
    found["load a module that the root has, too"] = _try(lambda: __import__("colorsys"))
    found["load a codec of the root's"] = _try(lambda: "x".encode("teul-planted"))
    for name, number, arguments in probe["calls"]:
        found[name] = _call(number, arguments)
    return found


def _try(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except (ModuleNotFoundError, LookupError):
        return "no module"
    return "done"


def _connect(family: int, address: tuple[str, int] | str) -> None:
    socket.socket(family, socket.SOCK_STREAM).connect(address)


def _call(number: int, arguments: list[int | str]) -> str:
    """A system call; a string stands for a pointer to it."""
    buffers = [ctypes.create_string_buffer(argument.encode(), 256) if isinstance(argument, str) else argument for argument in arguments]
    values = [buffer if isinstance(buffer, int) else ctypes.addressof(buffer) for buffer in buffers]
    result = _syscall(number, *values, *(0,) * (6 - len(values)))
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def _foreign_call() -> dict[str, str]:
    """getpid(2) by the numbers of 32-bit x86, of which the filter's own say nothing."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    return {"foreign": str(function())}
