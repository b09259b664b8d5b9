"""What is told of a container's files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PathStat:
    """What is told of a path. `mode` is numbered as Go's io/fs.FileMode; `target` is where a symlink leads in the end."""

    name: str
    size_bytes: int
    mode: int
    mtime_ns: int
    target: str


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is 0 for modified, 1 for added, 2 for deleted."""

    kind: int
    path: str
