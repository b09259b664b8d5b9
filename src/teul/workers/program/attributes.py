"""Extended attributes that an archive gives a file: which of them the file gets, as setxattr(2) and chmod(2) after it would leave them.

Pure, for an indexed layer has no kernel to ask, and an unpacked one is to look the same. What a file of its kind cannot have is passed
over; a value that the kernel would refuse makes the archive invalid, as it does for dockerd.

kernel: fs/xattr.c, fs/posix_acl.c (posix_acl_valid, posix_acl_equiv_mode, __posix_acl_chmod_masq), security/commoncap.c
(cap_convert_nscap).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable

from teul.workers.program.entries import FORBIDDEN_XATTRS, Refused

ACCESS_ACL, DEFAULT_ACL, CAPABILITY = b"system.posix_acl_access", b"system.posix_acl_default", b"security.capability"
_MAX_NAME_BYTES, _MAX_VALUE_BYTES = 255, 65536  # linux/limits.h: XATTR_NAME_MAX, XATTR_SIZE_MAX

# linux/posix_acl_xattr.h, linux/posix_acl.h
_ACL_VERSION = struct.pack("<I", 2)
_ACL_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF

# linux/capability.h: VFS_CAP_REVISION_MASK; the sizes that go with VFS_CAP_REVISION_2 and _3. Of the first revision none can be set.
_REVISION_MASK = 0xFF000000
_CAPABILITY_BYTES = {0x02000000: 20, 0x03000000: 24}
_NOBODY = 0xFFFFFFFF

_Acl = list[tuple[int, int, int]]  # tag, permissions, id


def accepted(xattrs: dict[bytes, bytes], kind: int) -> dict[bytes, bytes]:
    """Those of `xattrs` that a file of `kind` (`stat.S_IFREG` …) gets. Raises `Refused`."""
    found: dict[bytes, bytes] = {}
    for name, value in xattrs.items():
        if name.startswith(FORBIDDEN_XATTRS):
            continue
        if not name or len(name) > _MAX_NAME_BYTES or len(value) > _MAX_VALUE_BYTES:
            raise _invalid(name)
        if name in (ACCESS_ACL, DEFAULT_ACL):
            if (acl := _accepted_acl(name, value, kind)) is not None:
                found[name] = acl
        elif name == CAPABILITY:
            if not value:
                continue  # docker: Go's tar reader drops what is empty
            _check_capability(value)
            found[name] = value
        elif name.startswith(b"user.") and kind in (stat.S_IFREG, stat.S_IFDIR):
            if name == b"user.":
                raise _invalid(name)
            found[name] = value
        # Labels and signatures (security.selinux, security.ima) are for the host's own policy to give.
    return found


def under_mode(acl: bytes, mode: int) -> bytes | None:
    """An accepted access ACL after the file was given `mode`; None if the mode now says all of it."""
    entries = _parsed(acl)
    if not any(tag in (_USER, _GROUP, _MASK) for tag, _, _ in entries):
        return None
    group = _MASK if any(tag == _MASK for tag, _, _ in entries) else _GROUP_OBJ
    bits = {_USER_OBJ: mode >> 6 & 7, group: mode >> 3 & 7, _OTHER: mode & 7}
    return _rendered((tag, bits.get(tag, permissions), number) for tag, permissions, number in entries)


def _accepted_acl(name: bytes, value: bytes, kind: int) -> bytes | None:
    if not value or (len(value) >= len(_ACL_VERSION) and value[: len(_ACL_VERSION)] != _ACL_VERSION):
        return None  # takes an ACL away that is not there; or is of a version that no kernel has
    if (len(value) - len(_ACL_VERSION)) % _ACL_ENTRY.size:
        raise _invalid(name)
    entries = _parsed(value)
    if not entries:
        return None
    if any(tag in (_USER, _GROUP) and number == _NO_ID for tag, _, number in entries):
        raise _invalid(name)
    if kind == stat.S_IFLNK or (name == DEFAULT_ACL and kind != stat.S_IFDIR):
        return None
    if not _is_valid(entries):
        raise _invalid(name)
    return _rendered((tag, permissions, number if tag in (_USER, _GROUP) else _NO_ID) for tag, permissions, number in entries)


def _parsed(acl: bytes) -> _Acl:
    return list(_ACL_ENTRY.iter_unpack(acl[len(_ACL_VERSION) :]))


def _rendered(entries: Iterable[tuple[int, int, int]]) -> bytes:
    return _ACL_VERSION + b"".join(_ACL_ENTRY.pack(*entry) for entry in entries)


def _is_valid(entries: _Acl) -> bool:
    """The owner, users, the group, groups, the mask, which is needed if there were users or groups, and all others: in this order."""
    tags = [tag for tag, _, _ in entries]
    users, groups, masks = (tags.count(tag) for tag in (_USER, _GROUP, _MASK))
    order = [_USER_OBJ, *[_USER] * users, _GROUP_OBJ, *[_GROUP] * groups, *[_MASK] * masks, _OTHER]
    return tags == order and masks <= 1 and (masks == 1 or not users + groups) and all(permissions <= 7 for _, permissions, _ in entries)


def _check_capability(value: bytes) -> None:
    revision = int.from_bytes(value[:4], "little") & _REVISION_MASK
    if len(value) < 4 or len(value) != _CAPABILITY_BYTES.get(revision):
        raise _invalid(CAPABILITY)
    if len(value) == _CAPABILITY_BYTES[0x03000000] and int.from_bytes(value[20:], "little") == _NOBODY:
        raise _invalid(CAPABILITY)


def _invalid(name: bytes) -> Refused:
    return Refused(f"invalid attribute {os.fsdecode(name[:_MAX_NAME_BYTES])}")


def capability_of(parent_fd: int, base: bytes) -> dict[bytes, bytes]:
    """The capabilities of a file, as an attribute; changes the working directory."""
    os.fchdir(parent_fd)
    try:
        return {CAPABILITY: os.getxattr(base, CAPABILITY, follow_symlinks=False)}
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return {}
