"""A container's files as a worker sees them: its root and its binds, in namespaces that end with the worker.

Nothing is mounted on the host. The root of a running container is a copy of its root mount, taken out of its own mount namespace: the
same overlay, without /proc, /sys, /dev and the tmpfs mounts above it. The root of a stopped container is mounted here. Then the binds are
made, each at a target that was resolved inside the root, and the worker pivots into the root: whatever a container's symlinks say, no other
file can be reached any more.

docker: daemon/containerfs_linux.go has the same view, so `docker cp` knows no tmpfs either.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from teul.linux import mounts
from teul.linux.idmap import Range, UserNamespace, owner_ranges
from teul.linux.overlay import mount_overlay
from teul.linux.paths import make_target_in_root
from teul.linux.process import CLONE_NEWNS, setns
from teul.linux.users import resolve
from teul.workers.program.confine import MOUNT_ATTRIBUTES, enter_root, lock, seclude

if TYPE_CHECKING:
    from teul.workers.program.messages import BindMount, RootView


class ContainerGone(Exception):
    """The process whose root was to be entered has ended."""

    def __init__(self) -> None:
        super().__init__("the container has ended")


def enter(view: RootView, capabilities: tuple[str, ...], parent_pid: int, *, changing: bool) -> None:
    """Make the container's root all that this process can reach; `capabilities` and `changing` as for `confine`.

    Raises `OSError`, `ContainerGone`.
    """
    namespaces = {bind["destination"]: UserNamespace() for bind in view["binds"] if bind["id_map"] is not None}
    seclude(parent_pid)
    root_fd = _mount_stopped(view) if view["pidfd"] is None else _clone_running(view["pidfd"])
    mounts.set_attributes(root_fd, add=MOUNT_ATTRIBUTES, propagation=mounts.MS_PRIVATE)
    if view["pidfd"] is not None:
        mounts.attach_at(root_fd, view["stage"])
    for bind in view["binds"]:
        _bind(root_fd, bind, namespaces.get(bind["destination"]), view["user"], changing=changing)
    if view["read_only"]:
        mounts.set_attributes(root_fd, add=mounts.MOUNT_ATTR_RDONLY)
    enter_root(root_fd)
    lock(capabilities, changing=changing)


def enter_directories(
    root: str, others: Sequence[str | int], capabilities: tuple[str, ...], parent_pid: int, *, changing: bool = False
) -> list[int]:
    """Open `root` and `others`, read-only, and make them all that this process can reach: the first one is its root.

    `changing`, as for `confine`, is of what the process reaches by descriptors that it has already.

    Each is a host directory, or the descriptor of a mount, which is closed. Otherwise as `enter`. Each is the top of a mount of its own, so
    ".." leads nowhere.
    """
    seclude(parent_pid)
    fds = []
    mount_fds = [place if isinstance(place, int) else mounts.clone_tree(place) for place in (root, *others)]
    for mount_fd in mount_fds:
        mounts.set_attributes(mount_fd, add=MOUNT_ATTRIBUTES | mounts.MOUNT_ATTR_RDONLY, propagation=mounts.MS_PRIVATE)
        fds.append(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount_fd))
    mounts.attach_at(mount_fds[0], root)
    enter_root(mount_fds[0])
    for mount_fd in mount_fds[1:]:
        os.close(mount_fd)
    lock(capabilities, changing=changing)
    return fds


def _mount_stopped(view: RootView) -> int:
    overlay = view["overlay"]
    try:
        return mount_overlay(overlay["lower"], overlay["upper"], overlay["work"], view["stage"])
    finally:
        for layer in overlay["lower"]:
            if isinstance(layer, int):
                os.close(layer)


def _clone_running(pidfd: int) -> int:
    """A copy of the container's root mount alone, belonging to no namespace yet."""
    own_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            setns(pidfd, CLONE_NEWNS)
        except ProcessLookupError:
            raise ContainerGone from None
        # kernel: a mount can be cloned only by a process in the mount's namespace.
        root_fd = mounts.clone_tree("/")
        setns(own_fd, CLONE_NEWNS)
    finally:
        os.close(own_fd)
    # Targets of binds have to be made also in a root that is read-only for the container; the view's `read_only` is applied afterwards.
    mounts.set_attributes(root_fd, clear=mounts.MOUNT_ATTR_RDONLY)
    return root_fd


def _bind(root_fd: int, bind: BindMount, namespace: UserNamespace | None, user: str, *, changing: bool) -> None:
    source = bind["source"]
    mount_fd = source if isinstance(source, int) else mounts.clone_tree(source, recursive=bind["recursive"])
    try:
        read_only = mounts.MOUNT_ATTR_RDONLY if bind["read_only"] else 0
        mounts.set_attributes(mount_fd, add=MOUNT_ATTRIBUTES | read_only, propagation=mounts.MS_PRIVATE, recursive=True)
        if namespace is not None:
            _map_ids(mount_fd, bind, namespace, root_fd, user, changing=changing)
        directory = stat.S_ISDIR(os.fstat(mount_fd).st_mode)
        target_fd = make_target_in_root(root_fd, bind["destination"], directory=directory, follow=bind["asked"])
        try:
            mounts.attach(mount_fd, target_fd, path=bind["destination"])
        finally:
            os.close(target_fd)
    finally:
        os.close(mount_fd)


def _map_ids(mount_fd: int, bind: BindMount, namespace: UserNamespace, root_fd: int, user: str, *, changing: bool) -> None:
    ranges = bind["id_map"]
    assert ranges is not None
    uids: Sequence[Range] = ranges["uids"]
    gids: Sequence[Range] = ranges["gids"]
    if not uids:
        who = resolve(root_fd, user, [])
        uids, gids = owner_ranges(mount_fd, who.uid, who.gid)
    if changing:
        uids, gids = _with_root(uids), _with_root(gids)
    namespace.apply(mount_fd, uids, gids)
    namespace.close()


def _with_root(ranges: Sequence[Range]) -> Sequence[Range]:
    """The ranges, with root in the place of the first id that is seen if root is not.

    kernel: who makes a file has to be somebody whom the mount knows (EOVERFLOW), and a worker is root. So what it makes is the first one's
    of the container's, and what cannot be given to anybody else stays so.
    """
    if any(not first_seen for _, first_seen, _ in ranges):
        return ranges
    (first, first_seen, count), *others = ranges
    rest = [(first + 1, first_seen + 1, count - 1)] if count > 1 else []
    return [(first, 0, 1), *rest, *others]
