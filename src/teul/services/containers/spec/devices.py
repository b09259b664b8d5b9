"""Devices in a container's spec: what it says of each, and which containers ask for any. Pure; `containers.devices` looks them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from teul.model.host_config import HostConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A node to make in the container. `access` is what the container's cgroup may do with the device, out of `rwm`."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    access: str


@dataclass(frozen=True, slots=True)
class ContainerDevices:
    """`nodes` to make, and the (major, minor) of each device path that a block I/O limit names."""

    nodes: tuple[DeviceNode, ...] = ()
    numbers: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def asks_for_devices(host_config: HostConfig) -> bool:
    """Whether `gather_devices` must be called before a container with this `host_config` can start."""
    return host_config.privileged or bool(host_config.devices) or bool(limited_paths(host_config))


def limited_paths(host_config: HostConfig) -> set[str]:
    """The device paths that block I/O limits name."""
    throttles = (
        host_config.blkio_device_read_bps,
        host_config.blkio_device_write_bps,
        host_config.blkio_device_read_iops,
        host_config.blkio_device_write_iops,
    )
    return {device.path for device in host_config.blkio_weight_device or ()} | {
        device.path for devices in throttles for device in devices or ()
    }
