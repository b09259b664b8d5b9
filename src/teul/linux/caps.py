"""Capabilities of the calling thread: names, the five sets, and what /proc tells of any process.

A set is an integer mask (bit n is capability n) inside this module and a collection of names (`CAP_CHOWN`) at its edge. stdlib and
ctypes only: every container's first process loads this. The caller is single-threaded, since capset(2) and prctl(2) act on one thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from functools import cache

from teul.linux.syscalls import check, libc, os_error, syscall

# linux/capability.h, in the order of their numbers.
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(CAPABILITIES)}

_LINUX_CAPABILITY_VERSION_3 = 0x20080522

# linux/prctl.h
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_prctl = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, use_errno=True)(
    ("prctl", libc)
)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_DataPair = _Data * 2  # here: a ctypes array type is dear to make, and children of the keeper inherit it made


def mask(names: Iterable[str]) -> int:
    """The mask of `names`. A name that this module does not know is EINVAL."""
    result = 0
    for name in names:
        number = NUMBERS.get(name)
        if number is None:
            raise OSError(errno.EINVAL, f"unknown capability `{name}`")
        result |= 1 << number
    return result


def names(bits: int) -> list[str]:
    """The names in mask `bits`, in the kernel's order. Bits of capabilities newer than this module are left out."""
    return [name for number, name in enumerate(CAPABILITIES) if bits >> number & 1]


@cache
def last_capability() -> int:
    """The highest capability number that the running kernel knows. Asked once: the keeper does, and its children inherit the answer."""
    # security: asked of the kernel, not of /proc, which inside a container may be anything.
    number = 0
    while _prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:  # EINVAL past the last one
        number += 1
    return number - 1


def drop_bounding(keep: Iterable[str]) -> None:
    """Take everything but `keep` out of the bounding set, for good. Needs CAP_SETPCAP, so it comes before `set_capabilities`."""
    kept = mask(keep)
    for number in range(last_capability() + 1):
        if not kept >> number & 1:
            check(_prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), "prctl(PR_CAPBSET_DROP)", _name(number))


def set_capabilities(
    *,
    effective: Iterable[str],
    permitted: Iterable[str],
    inheritable: Iterable[str],
    bounding: Iterable[str] | None = None,
    ambient: Iterable[str] = (),
) -> None:
    """Replace this thread's capability sets, as OCI `process.capabilities` names them.

    `bounding` None leaves the bounding set alone: a caller that changes its uid in between shrinks that set earlier with `drop_bounding`,
    sets PR_SET_KEEPCAPS, and calls this afterwards. A capability that the running kernel does not know is left out (OCI runtime-spec
    config.md, "capabilities"); one that this thread may not have is EPERM.
    """
    if bounding is not None:
        drop_bounding(bounding)
    known = (1 << (last_capability() + 1)) - 1
    _capset(mask(effective) & known, mask(permitted) & known, mask(inheritable) & known)
    check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl(PR_CAP_AMBIENT_CLEAR_ALL)")
    # kernel: a capability can be raised only while it is permitted and inheritable, so after capset(2).
    for name in names(mask(ambient) & known):
        check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, NUMBERS[name], 0, 0), "prctl(PR_CAP_AMBIENT_RAISE)", name)


def get_capabilities() -> tuple[int, int, int]:
    """The effective, permitted and inheritable masks of this thread."""
    header, data = _Header(_LINUX_CAPABILITY_VERSION_3, 0), _DataPair()
    syscall("capget", ctypes.addressof(header), ctypes.addressof(data))
    low, high = data
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def process_masks(pid: int | str = "self") -> dict[str, int]:
    """The masks in /proc/<pid>/status under OCI's names: inheritable, permitted, effective, bounding, ambient."""
    path = f"/proc/{pid}/status"
    keys = {b"CapInh": "inheritable", b"CapPrm": "permitted", b"CapEff": "effective", b"CapBnd": "bounding", b"CapAmb": "ambient"}
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 65536)
    finally:
        os.close(fd)
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        if name in keys:
            found[keys[name]] = int(value, 16)
    if len(found) != len(keys):
        raise os_error(errno.EPROTO, "read", path)
    return found


def _capset(effective: int, permitted: int, inheritable: int) -> None:
    header, data = _Header(_LINUX_CAPABILITY_VERSION_3, 0), _DataPair()
    for half, shift in ((data[0], 0), (data[1], 32)):
        half.effective = effective >> shift & 0xFFFFFFFF
        half.permitted = permitted >> shift & 0xFFFFFFFF
        half.inheritable = inheritable >> shift & 0xFFFFFFFF
    syscall("capset", ctypes.addressof(header), ctypes.addressof(data))


def _name(number: int) -> str:
    return CAPABILITIES[number] if number < len(CAPABILITIES) else f"capability {number}"
