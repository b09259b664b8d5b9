"""Device nodes of the host that a container asks for, looked up just before it starts: what its spec needs to know of /dev."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from teul.errors import Refusal, System
from teul.model.host_config import HostConfig
from teul.services.containers.spec.devices import ContainerDevices, DeviceNode, limited_paths

_KINDS = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}
# docker: containerd's HostDevices passes over these; each container has nodes of its own there.
_SKIPPED_DIRECTORIES = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})
_SKIPPED_NAMES = frozenset({"console", "ptmx"})


def gather_devices(host_config: HostConfig) -> ContainerDevices:
    """Look up all devices that `host_config` names; for a privileged container those of /dev too. Raises System. Blocks."""
    nodes: list[DeviceNode] = []
    if host_config.privileged:
        nodes.extend(_host_nodes("/dev"))
    for mapping in host_config.devices or ():
        if not host_config.privileged:
            nodes.extend(
                _mapped(mapping.path_on_host, mapping.path_in_container or mapping.path_on_host, mapping.cgroup_permissions or "rwm")
            )
        elif mapping.path_on_host != mapping.path_in_container:
            # docker: a privileged container has the host's node already, and the mapping's own letters do not count.
            nodes.extend(_mapped(mapping.path_on_host, mapping.path_in_container or mapping.path_on_host, "rwm"))
    return ContainerDevices(tuple(nodes), {path: _number(path) for path in limited_paths(host_config)})


def _mapped(host_path: str, container_path: str, access: str) -> list[DeviceNode]:
    resolved = os.path.realpath(host_path)
    try:
        node = _node(resolved, container_path, access)
    except OSError as error:
        raise _cannot(host_path, os.strerror(error.errno or 0).lower()) from error
    if node is not None:
        return [node]
    if not os.path.isdir(resolved):
        raise _cannot(host_path, "not a device node")
    nodes = []
    for directory, _, names in os.walk(resolved):
        for name in sorted(names):
            path = os.path.join(directory, name)
            child = _node_or_none(path, container_path + path[len(resolved) :], access)
            if child is not None:
                nodes.append(child)
    if not nodes:
        raise _cannot(host_path, "not a device node")
    return nodes


def _cannot(path: str, reason: str) -> Refusal:
    return Refusal(f'error gathering device information while adding custom device "{path}": {reason}')


def _host_nodes(directory: str) -> Iterator[DeviceNode]:
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED_DIRECTORIES:
                    yield from _host_nodes(entry.path)
            elif entry.name not in _SKIPPED_NAMES:
                node = _node_or_none(entry.path, entry.path, "rwm")
                if node is not None and node.kind != "p":
                    yield node


def _node_or_none(path: str, container_path: str, access: str) -> DeviceNode | None:
    try:
        return _node(path, container_path, access)
    except FileNotFoundError:
        return None  # the node went away between listing and looking


def _node(path: str, container_path: str, access: str) -> DeviceNode | None:
    """The node at `path` under its name in the container; None if it is no device."""
    status = os.lstat(path)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return DeviceNode(
        path=container_path,
        kind=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )


def _number(path: str) -> tuple[int, int]:
    try:
        number = os.stat(path).st_rdev
    except OSError as error:
        raise System(f"stat {path}: {os.strerror(error.errno or 0).lower()}") from error
    return os.major(number), os.minor(number)
