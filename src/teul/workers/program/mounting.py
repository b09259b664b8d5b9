"""The program that puts a mount into a container that runs, or takes one away.

It is the container's processes that decide what a path in the container leads to, at any moment. So the path is resolved by the kernel, in
the container's root, and what was found is mounted on by descriptor; what is taken away is first known again. The process is in the
container's mount namespace and in none other of its namespaces, and it cannot be seen from there.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import stat
from typing import TYPE_CHECKING

from teul.linux import mounts
from teul.linux.idmap import UserNamespace, map_owner
from teul.linux.mountinfo import mount_of
from teul.linux.paths import make_target_in_root, open_in_root
from teul.linux.process import CLONE_NEWNS, setns
from teul.linux.users import UserError, resolve
from teul.workers.program.confine import keep_capabilities, seclude
from teul.workers.program.report import Rule, finish
from teul.workers.program.view import ContainerGone

if TYPE_CHECKING:
    from teul.workers.program.messages import AttachOrder, DetachOrder, DetachResult, MountingOrder, Nothing, Result

# CAP_DAC_OVERRIDE: for a target that has to be made in a directory of another user's.
_CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
_KERNELS_OWN = (mounts.PROC_SUPER_MAGIC, mounts.SYSFS_MAGIC)
_KERNELS_PLACES = ("/proc/", "/sys/")  # where something is mounted over the kernel's own, to hide it


class _Busy(Exception):
    """The mount is in use."""


class _Unknown(Exception):
    """What is mounted there is not what was put there."""


_RULES = (
    Rule("gone", ContainerGone),
    Rule("busy", _Busy),
    Rule("invalid", _Unknown, UserError),
    Rule("system", OSError, MemoryError),
)


def main(order_text: str) -> None:
    """Carry out the order and end the process."""
    order: MountingOrder = json.loads(order_text)
    finish(lambda: _carry_out(order), _RULES)


def _carry_out(order: MountingOrder) -> Result:
    return _attach(order) if order["job"] == "attach" else _detach(order)


def _attach(order: AttachOrder) -> Nothing:
    mount_fd, ranges, destination = order["mount_fd"], order["id_map"], order["destination"]
    namespace = UserNamespace() if ranges is not None else None
    root_fd, own_fd = _enter(order)
    if namespace is not None and ranges is not None:
        if ranges["uids"]:
            namespace.apply(mount_fd, ranges["uids"], ranges["gids"])
        else:
            who = resolve(root_fd, order["user"], [])
            map_owner(namespace, mount_fd, who.uid, who.gid)
    keep_capabilities(_CAPABILITIES)
    directory = stat.S_ISDIR(os.fstat(mount_fd).st_mode)
    target_fd = make_target_in_root(root_fd, destination, directory=directory)
    # security: nothing over what the kernel tells, by whatever path; a fake /proc would lead the next exec astray (CVE-2019-16884).
    place, _fields = mount_of(target_fd, own_fd)
    if mounts.filesystem_type(target_fd) in _KERNELS_OWN or place.startswith(_KERNELS_PLACES):
        raise OSError(errno.EINVAL, f'"{destination}" cannot be mounted because it is inside /proc or /sys')
    mounts.attach(mount_fd, target_fd, path=destination)
    return {}


def _detach(order: DetachOrder) -> DetachResult:
    destination, expected = order["destination"], order["identity"]
    root_fd, own_fd = _enter(order)
    keep_capabilities(_CAPABILITIES)
    try:
        parent_fd = open_in_root(root_fd, posixpath.dirname(destination), os.O_PATH | os.O_DIRECTORY)
        name = posixpath.basename(destination)
        top_fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    except (FileNotFoundError, NotADirectoryError):
        return {"found": False}
    status = os.fstat(top_fd)
    place, _fields = mount_of(top_fd, own_fd)
    if place == mount_of(parent_fd, own_fd)[0]:
        return {"found": False}
    # security: a container that has renamed what is above could else have another mount taken away, which may hide something from it.
    if place != destination or (expected is not None and [status.st_dev, status.st_ino] != expected):
        raise _Unknown(f"what is mounted at {destination} in the container is not what was mounted there")
    os.close(top_fd)
    os.fchdir(parent_fd)
    try:
        mounts.unmount(name, lazily=order["lazily"])
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _Busy(f"the mount at {destination} is in use") from error
        raise
    return {"found": True}


def _enter(order: AttachOrder | DetachOrder) -> tuple[int, int]:
    """Be in the container's mount namespace; returns its root, and this process's directory in the host's /proc.

    Raises `ContainerGone`.
    """
    seclude(order["parent_pid"])
    own_fd = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        setns(order["pidfd"], CLONE_NEWNS)
    except ProcessLookupError:
        raise ContainerGone from None
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), own_fd
