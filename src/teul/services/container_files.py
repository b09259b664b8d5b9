"""Where a container's files are, and the small ones that the engine writes: the network's three, config.json, launch.json."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any

import msgspec

from teul.runtime.launch import CONFIG_FILE
from teul.store import atomic

LAUNCH_FILE = "launch.json"


@dataclass(frozen=True, slots=True)
class EngineDirectories:
    """The engine's two places: `root` keeps, `run` is for what lives only while processes do."""

    root: str
    run: str

    def container(self, container_id: str) -> str:
        """What is kept of a container."""
        return f"{self.root}/containers/{container_id}"

    def bundle(self, container_id: str) -> str:
        """Its OCI bundle, there while it runs."""
        return f"{self.run}/containers/{container_id}"

    def exec(self, container_id: str, exec_id: str) -> str:
        """Where the monitor of one of its execs keeps its files."""
        return f"{self.bundle(container_id)}/exec-{exec_id[:16]}"

    def upper(self, container_id: str) -> str:
        """The container's own changes."""
        return f"{self.container(container_id)}/upper"

    def log(self, container_id: str) -> str:
        """The json-file log."""
        return f"{self.container(container_id)}/{container_id}-json.log"


def make_container_directories(directories: EngineDirectories, container_id: str) -> None:
    """The kept part, at create."""
    path = directories.container(container_id)
    os.mkdir(path, 0o710)
    os.mkdir(f"{path}/upper", 0o755)
    os.mkdir(f"{path}/work", 0o711)


def make_bundle(directories: EngineDirectories, container_id: str, files: dict[str, str]) -> str:
    """An empty bundle, and the kept `files` by name; returns the bundle's path. What an earlier run left is removed."""
    bundle = directories.bundle(container_id)
    remove_tree(bundle)
    os.mkdir(bundle, 0o711)
    os.mkdir(f"{bundle}/rootfs", 0o755)
    kept = directories.container(container_id)
    for name, text in files.items():
        with open(f"{kept}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    return bundle


def write_bundle_files(bundle: str, spec: dict[str, Any], message: dict[str, Any]) -> None:
    """The OCI config, and the launch message that a later engine needs to take the container over."""
    _write(f"{bundle}/{CONFIG_FILE}", spec)
    _write(f"{bundle}/{LAUNCH_FILE}", message)


def write_exec_config(directory: str, config: dict[str, Any]) -> None:
    """What an exec's process is to be: an OCI `process` and our extension. In a file, since an environment may be large."""
    _write(f"{directory}/{CONFIG_FILE}", config)


def read_bundle_files(bundle: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inverse of `write_bundle_files`. Raises `FileNotFoundError`."""
    return _read(f"{bundle}/{CONFIG_FILE}"), _read(f"{bundle}/{LAUNCH_FILE}")


def remove_bundle(directories: EngineDirectories, container_id: str) -> None:
    """Idempotent."""
    remove_tree(directories.bundle(container_id))


def discard(directories: EngineDirectories, container_id: str) -> None:
    """Remove a container's kept files: out of sight in one step first, for that may take a while. Idempotent."""
    aside = f"{directories.root}/tmp/removed-{container_id}"
    try:
        os.rename(directories.container(container_id), aside)
    except FileNotFoundError:
        return
    remove_tree(aside)


def sweep(directories: EngineDirectories, known: set[str]) -> list[str]:
    """Discard kept files without a record; returns the ids of bundles without one, whose processes must be ended first."""
    for name in os.listdir(f"{directories.root}/containers"):
        if name not in known:
            discard(directories, name)
    return [name for name in os.listdir(f"{directories.run}/containers") if name not in known]


def remove_tree(path: str) -> None:
    """Remove a directory and all below it. Idempotent; several may remove the same at once."""
    atomic.remove_tree(path)


def size_of_tree(path: str) -> int:
    """Bytes of the regular files and links below `path`, hard links counted once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    stack = [path]
    while stack:
        for entry, status in _list_directory(stack.pop()):
            if stat.S_ISDIR(status.st_mode):
                stack.append(entry)
            elif status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def _list_directory(path: str) -> list[tuple[str, os.stat_result]]:
    """What is in a directory of a running container; what disappears meanwhile is not."""
    listed: list[tuple[str, os.stat_result]] = []
    try:
        names = os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return listed
    for name in names:
        try:
            listed.append((f"{path}/{name}", os.lstat(f"{path}/{name}")))
        except FileNotFoundError:
            continue
    return listed


def _write(path: str, document: dict[str, Any]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(document))
    finally:
        os.close(fd)


def _read(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        document: dict[str, Any] = msgspec.json.decode(file.read())
    return document
