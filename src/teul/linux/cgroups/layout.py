"""Where this host has its cgroup hierarchies mounted, and which controllers each has."""

from __future__ import annotations

import os

from teul.linux.cgroups import files

# linux/cgroup_subsys.h: those of a v1 mount's options that are controllers.
_CONTROLLERS_V1 = frozenset(
    (
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "misc",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    )
)


class Layout:
    """The hierarchies of this host. A value: nothing in it changes after it was made.

    `mode` is "v1", "hybrid" (v1 controllers and a v2 hierarchy beside them), "v2", or "none". `v1` maps a controller to its mount
    point. `hierarchies` are all v1 mount points, each once, those without controllers (`name=systemd`) included. `unified` is the v2
    mount point and `unified_controllers` what it can hand to children.
    """

    __slots__ = ("hierarchies", "mode", "unified", "unified_controllers", "v1")

    def __init__(self, v1: dict[str, str], hierarchies: tuple[str, ...], unified: str | None, unified_controllers: frozenset[str]) -> None:
        self.v1 = v1
        self.hierarchies = hierarchies
        self.unified = unified
        self.unified_controllers = unified_controllers
        if unified is None:
            self.mode = "v1" if hierarchies else "none"
        else:
            self.mode = "hybrid" if hierarchies else "v2"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.hierarchies, self.unified))

    def __repr__(self) -> str:
        return f"Layout({self.mode}, v1={self.v1}, unified={self.unified}, unified_controllers={sorted(self.unified_controllers)})"


class CgroupMount:
    """One line of mountinfo that mounts a cgroup hierarchy."""

    __slots__ = ("device", "filesystem", "options", "path")

    def __init__(self, path: str, filesystem: str, options: tuple[str, ...], device: str) -> None:
        self.path = path
        self.filesystem = filesystem
        self.options = options
        self.device = device


def parse_mountinfo(text: str) -> list[CgroupMount]:
    """The cgroup mounts in /proc/<pid>/mountinfo (proc_pid_mountinfo(5)), in its order."""
    mounts = []
    for line in text.splitlines():
        if " - cgroup" not in line:
            continue
        left, _, right = line.partition(" - ")
        fields, (filesystem, _, options, *_) = left.split(" "), right.split(" ")
        if filesystem in {"cgroup", "cgroup2"}:
            mounts.append(CgroupMount(_unescape(fields[4]), filesystem, tuple(options.split(",")), fields[2]))
    return mounts


def assemble(mounts: list[CgroupMount], unified_controllers: frozenset[str]) -> Layout:
    """The `Layout` that these mounts make. A hierarchy mounted twice counts where it is mounted first."""
    v1: dict[str, str] = {}
    hierarchies: dict[str, str] = {}
    unified = None
    for mount in mounts:
        if mount.filesystem == "cgroup2":
            unified = unified or mount.path
        elif mount.device not in hierarchies:
            hierarchies[mount.device] = mount.path
            for option in mount.options:
                if option in _CONTROLLERS_V1:
                    v1[option] = mount.path
    return Layout(v1, tuple(hierarchies.values()), unified, unified_controllers if unified else frozenset())


def detect() -> Layout:
    """Read the layout of the calling process's mount namespace. About a quarter of a millisecond: do it once."""
    visible = [mount for mount in parse_mountinfo(files.read("/proc/self/mountinfo")) if _is_visible(mount)]
    unified = next((mount.path for mount in visible if mount.filesystem == "cgroup2"), None)
    controllers = files.read(f"{unified}/cgroup.controllers").split() if unified else ()
    return assemble(visible, frozenset(controllers))


def _is_visible(mount: CgroupMount) -> bool:
    """Whether the path leads to this mount: mountinfo also lists what a later mount covers."""
    try:
        number = os.stat(mount.path).st_dev
    except FileNotFoundError:
        return False
    return f"{os.major(number)}:{os.minor(number)}" == mount.device


def _unescape(path: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path
