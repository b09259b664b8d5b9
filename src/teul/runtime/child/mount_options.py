"""OCI mount options (the words of `mount(8)`) to attributes, propagation and file-system options. Pure."""

from __future__ import annotations

from teul.linux.mounts import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)

_FLAGS = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
    # The access-time words exclude one another: setting one clears the field first (mount_setattr(2)).
    "noatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
    "atime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    "relatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    "norelatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
    "nostrictatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
}
_PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED, "unbindable": MS_UNBINDABLE}
_IGNORED = frozenset(("defaults", "async", "nomand", "silent", "loud"))


class MountOptions:
    """What a list of option words asks for."""

    __slots__ = ("add", "bind", "clear", "data", "follow", "propagation", "recursive", "recursive_propagation", "recursive_readonly")

    def __init__(self, words: list[str]) -> None:
        self.add = 0
        self.clear = 0
        self.bind = False
        self.follow = True  # a symlink at the destination
        self.recursive = False
        self.propagation = 0
        self.recursive_propagation = False
        self.recursive_readonly = False
        self.data: list[tuple[str, str | None]] = []
        for word in words:
            self._take(word)

    def _take(self, word: str) -> None:
        if word in _FLAGS:
            add, clear = _FLAGS[word]
            self.add = (self.add & ~clear) | add
            self.clear = (self.clear & ~add) | clear
        elif word in ("bind", "rbind"):
            self.bind = True
            self.recursive = word == "rbind"
        elif word == "dest-nofollow":  # crun's word
            self.follow = False
        elif word == "rro":
            self.add |= MOUNT_ATTR_RDONLY
            self.recursive_readonly = True
        elif word in _PROPAGATION:
            self.propagation = _PROPAGATION[word]
        elif word[:1] == "r" and word[1:] in _PROPAGATION:
            self.propagation = _PROPAGATION[word[1:]]
            self.recursive_propagation = True
        elif word not in _IGNORED:
            key, separator, value = word.partition("=")
            self.data.append((key, value if separator else None))
