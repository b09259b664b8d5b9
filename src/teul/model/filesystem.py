"""What the engine tells clients of a container's files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PathStat:
    """What the engine tells of a path. `mode` is numbered as Go's io/fs.FileMode; `target` is where a symlink leads in the end."""

    name: str
    size_bytes: int
    mode: int
    mtime_ns: int
    target: str


@dataclass(frozen=True, slots=True)
class Change:
    """A path that differs from the container's image: `kind` is 0 for modified, 1 for added, 2 for deleted."""

    kind: int
    path: str
