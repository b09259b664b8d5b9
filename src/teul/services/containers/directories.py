"""Where the files of containers are: those that are kept, and those that are there only while the container runs."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from teul import failpoints
from teul.store.atomic import ignoring_absence, remove_tree
from teul.store.ballast import is_full
from teul.store.sweeping import logging_refusals


@dataclass(frozen=True, slots=True)
class EngineDirectories:
    """The engine's two places: `root` keeps, `run` is for what lives only while processes do."""

    root: str
    run: str

    def container(self, container_id: str) -> str:
        """The directory of a container's kept files."""
        return f"{self.root}/containers/{container_id}"

    def bundle(self, container_id: str) -> str:
        """The OCI bundle of a container, there while it runs."""
        return f"{self.run}/containers/{container_id}"

    def exec(self, container_id: str, exec_id: str) -> str:
        """Where the monitor of a container's exec keeps its files."""
        return f"{self.bundle(container_id)}/exec-{exec_id[:16]}"

    def upper(self, container_id: str) -> str:
        """The container's own changes."""
        return f"{self.container(container_id)}/upper"

    def log(self, container_id: str) -> str:
        """The container's json-file log."""
        return f"{self.container(container_id)}/{container_id}-json.log"


def make_container_directories(directories: EngineDirectories, container_id: str) -> None:
    """Make the directories of a new container's kept files."""
    path = directories.container(container_id)
    os.mkdir(path, 0o710)
    os.mkdir(f"{path}/upper", 0o755)
    os.mkdir(f"{path}/work", 0o711)


def empty_upper(directories: EngineDirectories, container_id: str) -> None:
    """Remove what a container has written, and its log. For a container that is being removed and has to make room for that."""
    remove_tree(directories.upper(container_id))
    os.mkdir(directories.upper(container_id), 0o755)
    with ignoring_absence():
        os.truncate(directories.log(container_id), 0)


def discard(directories: EngineDirectories, container_id: str) -> None:
    """Remove a container's kept files: out of sight in one step first, for removing them may take a while. Idempotent."""
    aside = f"{directories.root}/tmp/removed-{container_id}"
    try:
        os.rename(directories.container(container_id), aside)
    except FileNotFoundError:
        return
    except OSError as error:
        if not is_full(error):
            raise
        aside = directories.container(container_id)  # there is no room for another name
    failpoints.reach("containers.remove.aside")
    remove_tree(aside)


def sweep(directories: EngineDirectories, known: set[str]) -> list[str]:
    """Discard kept files without a record; returns the ids of bundles without a record, whose processes must be ended first.

    Files that refuse to go are told of in the log, and stay.
    """
    for name in os.listdir(f"{directories.root}/containers"):
        if name not in known:
            with logging_refusals(f"the files of container {name}, of which there is no record"):
                discard(directories, name)
    return [name for name in bundle_ids(directories) if name not in known]


def bundle_ids(directories: EngineDirectories) -> set[str]:
    """The ids of the containers that have a bundle. Blocking."""
    return set(os.listdir(f"{directories.run}/containers"))


def size_of_tree(path: str) -> int:
    """Bytes of the regular files and links below `path`, hard links counted once. What vanishes meanwhile is not counted.

    security: of a container that runs, which may exchange a directory for a symlink at any time and nest directories deeper than a path
    is long: goes by descriptors, two at a time, and follows no link. The way back up is checked, for the directory may have been moved.
    """
    try:
        current_fd = _open_directory(path)
    except FileNotFoundError:
        return 0
    count = _Count()
    try:
        # One list per level, of the directories still to be looked into, and above each the identity of the directory that has them.
        pending = [count.directory(current_fd)]
        above = [_identity(current_fd)]
        while pending:
            if pending[-1]:
                try:
                    below_fd = _open_directory(pending[-1].pop(), current_fd)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # gone, or something else by now
                except OSError as error:
                    if error.errno != errno.ELOOP:
                        raise
                    continue  # a symlink by now
                os.close(current_fd)
                current_fd = below_fd
                pending.append(count.directory(current_fd))
                above.append(_identity(current_fd))
                continue
            pending.pop()
            above.pop()
            if pending:
                above_fd = _open_directory("..", current_fd)
                os.close(current_fd)
                current_fd = above_fd
                if _identity(current_fd) != above[-1]:
                    break  # moved under our feet: where we are now is not where we came from
    finally:
        os.close(current_fd)
    return count.total_bytes


class _Count:
    """Bytes found so far."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._seen: set[tuple[int, int]] = set()

    def directory(self, directory_fd: int) -> list[str]:
        """Count what is in the directory; returns the names of the directories in it."""
        directories: list[str] = []
        with os.scandir(directory_fd) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    directories.append(entry.name)
                elif status.st_nlink == 1 or (status.st_dev, status.st_ino) not in self._seen:
                    self._seen.add((status.st_dev, status.st_ino))
                    self.total_bytes += status.st_size
        return directories


def _open_directory(name: str, dir_fd: int | None = None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
