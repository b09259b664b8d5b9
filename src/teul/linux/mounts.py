"""Mounts by descriptor: the file-descriptor based mount interface of Linux 5.2 and later.

A mount is built detached, given its attributes, and only then attached at an opened target, so no path is looked up twice
and nothing is ever seen half configured. stdlib and ctypes only.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from teul.linux.syscalls import check, libc, prototype, syscall

# sys/mount.h, linux/mount.h
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
PROC_SUPER_MAGIC = 0x9FA0  # linux/magic.h
TMPFS_MAGIC = 0x01021994
SYSFS_MAGIC = 0x62656572

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
AT_FDCWD = -100


class mount_attr(ctypes.Structure):
    """linux/mount.h, struct mount_attr."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_fsopen = prototype("fsopen", ctypes.c_char_p, ctypes.c_uint)
_fsconfig = prototype("fsconfig", ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
_fsmount = prototype("fsmount", ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_open_tree = prototype("open_tree", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_move_mount = prototype("move_mount", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_mount_setattr = prototype("mount_setattr", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint, ctypes.POINTER(mount_attr), ctypes.c_size_t)
_mount = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p, use_errno=True)(
    ("mount", libc)
)
_fstatfs = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, use_errno=True)(("fstatfs", libc))
_StatfsBuffer = ctypes.c_long * 32  # struct statfs begins with f_type, and fits. A type is made here, once: that is dear
_umount2 = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, use_errno=True)(("umount2", libc))


def filesystem_type(fd: int) -> int:
    """The magic number (linux/magic.h) of the file system that `fd` is on. fstatfs(2)."""
    buffer = _StatfsBuffer()
    check(_fstatfs(fd, ctypes.byref(buffer)), "fstatfs")
    return int(buffer[0])


def new_filesystem(fstype: str, options: Sequence[tuple[str, str | int | None]], attributes: int = 0, *, source: str | None = None) -> int:
    """A detached mount of a new `fstype` instance; returns its descriptor.

    `options` are the file system's own (`("size", "64m")`, `("newinstance", None)` for a flag, `("lowerdir+", 7)` for a descriptor); each
    is passed by itself, so no value can smuggle in another one. Raises `OSError` naming the option that was refused.
    """
    context_fd = _fsopen(fstype.encode(), FSOPEN_CLOEXEC, path=fstype)
    try:
        if source is not None:
            _fsconfig(context_fd, FSCONFIG_SET_STRING, b"source", os.fsencode(source), 0, path=source)
        for key, value in options:
            if value is None:
                _fsconfig(context_fd, FSCONFIG_SET_FLAG, key.encode(), None, 0, path=f"{fstype}: {key}")
            elif isinstance(value, int):
                _fsconfig(context_fd, FSCONFIG_SET_FD, key.encode(), None, value, path=f"{fstype}: {key}")
            else:
                _fsconfig(context_fd, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0, path=f"{fstype}: {key}={value}")
        _fsconfig(context_fd, FSCONFIG_CMD_CREATE, None, None, 0, path=fstype)
        return _fsmount(context_fd, FSMOUNT_CLOEXEC, attributes, path=fstype)
    finally:
        os.close(context_fd)


def clone_tree(path: str, *, dir_fd: int = AT_FDCWD, recursive: bool = False) -> int:
    """A detached copy (a bind mount that is not attached yet) of what is mounted at `path`; "" means `dir_fd` itself."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    return _open_tree(dir_fd, os.fsencode(path), flags, path=path)


def set_attributes(mount_fd: int, *, add: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    """Change attributes or propagation of a mount, or of all mounts below it. mount_setattr(2), Linux 5.12."""
    attributes = mount_attr(add, clear, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _mount_setattr(mount_fd, b"", flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def map_ids(mount_fd: int, user_namespace_fd: int) -> None:
    """Have a detached mount, and all below it, show owners as the user namespace's mapping says. mount_setattr(2), Linux 5.12."""
    attributes = mount_attr(MOUNT_ATTR_IDMAP, 0, 0, user_namespace_fd)
    flags = AT_EMPTY_PATH | AT_RECURSIVE
    _mount_setattr(mount_fd, b"", flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def attach(mount_fd: int, target_fd: int, *, path: str) -> None:
    """Attach a detached mount at the opened `target_fd`; `path` is only for the error text."""
    _move_mount(mount_fd, b"", target_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH, path=path)


def attach_at(mount_fd: int, path: str) -> None:
    """Attach at a host directory, looked up by path: only while nobody else can change it."""
    path_fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        attach(mount_fd, path_fd, path=path)
    finally:
        os.close(path_fd)


def mount(fstype: str, path: str, options: str, *, source: str) -> None:
    """mount(2): a new `fstype` instance at `path`. For what the kernel does not take option by option; `options` has a page at most."""
    check(_mount(os.fsencode(source), os.fsencode(path), fstype.encode(), 0, os.fsencode(options)), "mount", f"{fstype} at {path}")


def set_propagation(path: str, flags: int) -> None:
    """mount(2) with only propagation flags (`MS_SLAVE | MS_REC`)."""
    check(_mount(None, os.fsencode(path), None, flags, None), "mount", path)


def detach(path: str) -> None:
    """Lazily unmount `path`."""
    check(_umount2(os.fsencode(path), MNT_DETACH), "umount2", path)


def unmount(path: str, *, lazily: bool) -> None:
    """Unmount what is at `path` itself, not at what it links to. Raises `OSError`, EBUSY for what is in use unless `lazily`."""
    check(_umount2(os.fsencode(path), UMOUNT_NOFOLLOW | (MNT_DETACH if lazily else 0)), "umount2", path)


def pivot_root_here() -> None:
    """Make the current directory (a mount point) the root and drop the old one. pivot_root(2), `pivot_root(".", ".")`.

    Nothing in the old root may be shared (`MS_SLAVE | MS_REC`), or taking it off would take the host's mounts off, too.
    """
    dot = ctypes.create_string_buffer(b".")
    syscall("pivot_root", ctypes.addressof(dot), ctypes.addressof(dot), path=".")
    # The old root is now stacked on "."; umount2(2) takes what is on top, while mount(2) would change what is below.
    detach(".")
    os.chdir("/")
