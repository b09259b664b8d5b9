"""Devices of the host: found by path, by directory and through links, and refused with Docker's words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from teul.errors import System
from teul.model.host_config import DeviceMapping, HostConfig, ThrottleDevice, WeightDevice
from teul.services.containers.devices import gather_devices
from teul.services.containers.spec.devices import asks_for_devices


def _mapping(host: str, container: str = "", access: str = "") -> HostConfig:
    return HostConfig(devices=[DeviceMapping(path_on_host=host, path_in_container=container, cgroup_permissions=access)])


def test_a_device_keeps_its_numbers_under_another_name() -> None:
    (node,) = gather_devices(_mapping("/dev/zero", "/dev/nought", "r")).nodes
    assert (node.path, node.kind, node.major, node.minor, node.access) == ("/dev/nought", "c", 1, 5, "r")
    assert node.mode == os.stat("/dev/zero").st_mode & 0o7777


def test_what_is_not_said_is_the_same_place_and_everything() -> None:
    (node,) = gather_devices(_mapping("/dev/zero")).nodes
    assert (node.path, node.access) == ("/dev/zero", "rwm")


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").symlink_to("/dev/zero")
    (node,) = gather_devices(_mapping(str(tmp_path / "disk"), "/dev/disk")).nodes
    assert (node.path, node.minor) == ("/dev/disk", 5)


def test_a_directory_gives_the_nodes_in_it(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    os.mkfifo(tmp_path / "below" / "pipe")
    (tmp_path / "file").touch()
    (node,) = gather_devices(_mapping(str(tmp_path), "/dev/all")).nodes
    assert (node.path, node.kind) == ("/dev/all/below/pipe", "p")


@pytest.mark.parametrize(
    ("name", "reason"), [("gone", "no such file or directory"), ("file", "not a device node"), ("", "not a device node")]
)
def test_what_is_no_device_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / name)
    with pytest.raises(System) as caught:
        gather_devices(_mapping(path))
    assert caught.value.message == f'error gathering device information while adding custom device "{path}": {reason}'


def test_limited_devices_are_found_by_number() -> None:
    host_config = HostConfig(
        blkio_weight_device=[WeightDevice(path="/dev/null", weight=100)], blkio_device_read_bps=[ThrottleDevice(path="/dev/zero", rate=1)]
    )
    assert gather_devices(host_config).numbers == {"/dev/null": (1, 3), "/dev/zero": (1, 5)}
    with pytest.raises(System, match=r"^stat /gone: no such file or directory$"):
        gather_devices(HostConfig(blkio_device_write_bps=[ThrottleDevice(path="/gone", rate=1)]))


def test_a_privileged_container_gets_the_hosts_devices() -> None:
    host_config = HostConfig(privileged=True, devices=[DeviceMapping(path_on_host="/dev/zero", path_in_container="/dev/nought")])
    nodes = {node.path: node for node in gather_devices(host_config).nodes}
    assert nodes["/dev/null"].minor == 3
    assert nodes["/dev/nought"].minor == 5
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) or path in ("/dev/console", "/dev/ptmx") for path in nodes)


def test_who_asks_for_devices() -> None:
    assert not asks_for_devices(HostConfig())
    assert asks_for_devices(HostConfig(privileged=True))
    assert asks_for_devices(_mapping("/dev/zero"))
    assert asks_for_devices(HostConfig(blkio_device_read_iops=[ThrottleDevice(path="/dev/sda", rate=1)]))
