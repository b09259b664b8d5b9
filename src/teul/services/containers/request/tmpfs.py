"""The options of a tmpfs, as a client writes them. Pure."""

from __future__ import annotations

import json

from teul.errors import InvalidParameter
from teul.services.containers.request.mounts import DEFAULT_PROPAGATION

_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev", DEFAULT_PROPAGATION)
# Options that exclude one another: the last one of a group counts.
_TMPFS_GROUPS = (
    ("ro", "rw"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("sync", "async"),
    ("dirsync",),
    ("remount",),
    ("mand", "nomand"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
    ("relatime", "norelatime"),
    ("strictatime", "nostrictatime"),
    ("bind", "rbind", "unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave"),
)
_TMPFS_FLAGS = {word: group[0] for group in _TMPFS_GROUPS for word in group}
_TMPFS_KEYS = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})


def merge_tmpfs_options(text: str) -> list[str]:
    """Docker's defaults and the given options; of options that contradict or repeat each other the last. Raises InvalidParameter.

    docker: moby/sys mount.MergeTmpfsOptions.
    """
    merged: list[str] = []
    seen: set[str] = set()
    for option in reversed([*_TMPFS_DEFAULTS, *(text.split(",") if text else ())]):
        if option == "defaults":
            continue
        key = _TMPFS_FLAGS.get(option)
        if key is None:
            name, equals, _ = option.partition("=")
            if not equals or name not in _TMPFS_KEYS:
                parts = [name, option[len(name) + 1 :]] if equals else [name]
                raise InvalidParameter(f"invalid tmpfs option [{' '.join(json.dumps(part) for part in parts)}]")
            key = f"{name}="
        if key not in seen:
            seen.add(key)
            merged.append(option)
    return merged[::-1]
