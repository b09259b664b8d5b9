"""Where the files of containers are: those that are kept, and those that are there only while the container runs."""

from __future__ import annotations

import os
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

    @property
    def lowest_layer(self) -> str:
        """The layer that all containers have at the bottom (`lowest_layer`)."""
        return f"{self.root}/lowest-layer"

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

    def local_log(self, container_id: str) -> str:
        """The container's log in our own format: that of the `local` driver, and what is kept of lines that go elsewhere."""
        return f"{self.container(container_id)}/container.log"


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
    for log in (directories.log(container_id), directories.local_log(container_id)):
        with ignoring_absence():
            os.truncate(log, 0)


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
