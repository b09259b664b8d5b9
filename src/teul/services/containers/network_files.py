"""The network's files of a container that runs, kept up to date when its networks change: written in place, for they are mounted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial

from teul.aio import run_blocking
from teul.model.container import Container
from teul.services.containers.bundle import read_host_file
from teul.services.containers.directories import EngineDirectories
from teul.services.containers.spec.network_files import (
    RESOLVER_ADDRESS,
    render_container_files,
    uses_resolver,
    with_own_addresses,
)

# What a container may have made of its hosts file and still have the engine read it.
_LARGEST_HOSTS_BYTES = 1 << 20


class NetworkFiles:
    """Writes `hosts`, and `resolv.conf` when the embedded resolver comes into use or goes out of it."""

    def __init__(self, directories: EngineDirectories) -> None:
        self._directories = directories
        # Two that the container is linked to may start at the same moment.
        self._editing = threading.Lock()

    async def refresh(self, container: Container) -> None:
        """Have the files of a container say what its endpoints are now; what the container wrote into them otherwise stays."""
        await run_blocking(self._refresh, container)

    async def edit_hosts(self, container: Container, change: Callable[[str], str]) -> None:
        """Have a container's hosts file be what `change` makes of it; nothing happens where there is none."""
        await run_blocking(self._edit_hosts, container, change)

    def _edit_hosts(self, container: Container, change: Callable[[str], str]) -> None:
        path = f"{self._directories.container(container.id)}/hosts"
        with self._editing:
            hosts = _read(path)
            if hosts is not None and (changed := change(hosts)) != hosts:
                _write_in_place(path, changed)

    def _refresh(self, container: Container) -> None:
        directory = self._directories.container(container.id)
        self._edit_hosts(container, partial(with_own_addresses, container=container))
        resolv_conf = _read(f"{directory}/resolv.conf")
        if resolv_conf is not None and (f"nameserver {RESOLVER_ADDRESS}\n" in resolv_conf) != uses_resolver(container):
            rendered = render_container_files(container, host_hosts="", host_resolv_conf=read_host_file("/etc/resolv.conf"))
            _write_in_place(f"{directory}/resolv.conf", rendered["resolv.conf"])


def _read(path: str) -> str | None:
    """The file's text, in which undecodable bytes are kept; None if there is none, or it is larger than any that the engine wrote."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        if os.fstat(fd).st_size > _LARGEST_HOSTS_BYTES:
            return None
        return file.read(_LARGEST_HOSTS_BYTES).decode("utf-8", "surrogateescape")


def _write_in_place(path: str, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(fd, "wb") as file:
        # Not truncated before: a reader in between finds the end of the old text rather than nothing.
        file.write(data)
        file.truncate(len(data))
