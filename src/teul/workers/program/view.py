"""A container's files as a worker sees them: its root and its binds, in a mount namespace that ends with the worker.

Nothing is mounted on the host. The root of a running container is a copy of its root mount, taken out of its own mount namespace: the
same overlay, without /proc, /sys, /dev and the tmpfs mounts above it. The root of a stopped container is mounted here. Then the binds are
made, each at a target that was resolved inside the root, and the worker pivots into the root: whatever a container's symlinks say, no other
file can be reached any more.

docker: daemon/containerfs_linux.go has the same view, so `docker cp` knows no tmpfs either.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from teul.linux import mounts
from teul.linux.overlay import mount_overlay
from teul.linux.paths import make_target_in_root
from teul.linux.process import CLONE_NEWNS, setns, unshare
from teul.workers.program.confine import harden, keep_capabilities

if TYPE_CHECKING:
    from teul.workers.program.messages import BindMount, RootView

# security: no file of the container may be opened as a device or give privileges to a worker, whoever runs the worker.
_ATTRIBUTES = mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC


class ContainerGone(Exception):
    """The process whose root was to be entered has ended."""

    def __init__(self) -> None:
        super().__init__("the container has ended")


def enter(view: RootView, capabilities: tuple[str, ...], parent_pid: int) -> None:
    """Make the container's root this process's "/" and keep only `capabilities`. Raises `OSError`, `ContainerGone`."""
    harden(parent_pid)
    unshare(CLONE_NEWNS)
    mounts.set_propagation("/", mounts.MS_PRIVATE | mounts.MS_REC)
    root_fd = _mount_stopped(view) if view["pidfd"] is None else _clone_running(view["pidfd"])
    mounts.set_attributes(root_fd, add=_ATTRIBUTES, propagation=mounts.MS_PRIVATE)
    if view["pidfd"] is not None:
        mounts.attach_at(root_fd, view["stage"])
    for bind in view["binds"]:
        _bind(root_fd, bind)
    if view["read_only"]:
        mounts.set_attributes(root_fd, add=mounts.MOUNT_ATTR_RDONLY)
    os.fchdir(root_fd)
    mounts.pivot_root_here()
    os.close(root_fd)
    keep_capabilities(capabilities)


def _mount_stopped(view: RootView) -> int:
    overlay = view["overlay"]
    return mount_overlay(overlay["lower"], overlay["upper"], overlay["work"], view["stage"])


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


def _bind(root_fd: int, bind: BindMount) -> None:
    mount_fd = mounts.clone_tree(bind["source"], recursive=bind["recursive"])
    try:
        read_only = mounts.MOUNT_ATTR_RDONLY if bind["read_only"] else 0
        mounts.set_attributes(mount_fd, add=_ATTRIBUTES | read_only, propagation=mounts.MS_PRIVATE, recursive=True)
        directory = stat.S_ISDIR(os.fstat(mount_fd).st_mode)
        target_fd = make_target_in_root(root_fd, bind["destination"], directory=directory, follow=bind["asked"])
        try:
            mounts.attach(mount_fd, target_fd, path=bind["destination"])
        finally:
            os.close(target_fd)
    finally:
        os.close(mount_fd)
