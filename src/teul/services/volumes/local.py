"""The files of volumes: `<root>/volumes/<name>/`, of which `_data` is what containers see. Docker's places, so that its users find them.

A volume with options is a mount: it is made at `_data`, where the host sees it as well, when the first container that has the volume
starts, and taken away after the last one.

What an image gives a new volume is copied to `_new`, out of sight, and takes the place of the empty `_data` in one step. Where a running
container sees `_data` already the entries are moved one by one instead, and where the volume is a mount they are copied there. As long as
that lasts there is `_unfinished`, and what an engine that was killed has left is finished by the next one.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping

from teul import failpoints
from teul.errors import Refusal
from teul.linux import mounts
from teul.linux.mountinfo import mount_points
from teul.model.volume import Volume
from teul.runtime.child.mount_options import MountOptions
from teul.store.atomic import ignoring_absence, remove_tree, sync_directory
from teul.store.sweeping import logging_refusals

_NETWORK_TYPES = frozenset({"nfs", "nfs4", "cifs"})


class VolumeFiles:
    """The directory `root`. Every method blocks, but those that name places."""

    def __init__(self, root: str, temporary: str) -> None:
        self._root = root
        self._temporary = temporary

    def data(self, name: str) -> str:
        """What containers see of the volume."""
        return f"{self._root}/{name}/_data"

    def make(self, name: str) -> None:
        """Make the directories of a volume that nobody knows yet; what is there of that name is of a volume that was never acknowledged."""
        top = f"{self._root}/{name}"
        remove_tree(top)
        os.mkdir(top, 0o701)
        os.mkdir(f"{top}/_data", 0o755)
        sync_directory(top)
        sync_directory(self._root)

    def remove(self, name: str) -> None:
        """Remove what a volume has, out of sight in one step first. Idempotent. Raises `OSError`, EBUSY for what is mounted inside.

        That is somebody else's, and would be removed with it.
        """
        self.unmount(name)
        for place in self.mounted_inside(name):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), place)
        doomed = f"{self._temporary}/removed-volume-{name}"
        remove_tree(doomed)
        with ignoring_absence():
            os.rename(f"{self._root}/{name}", doomed)
        failpoints.reach("volumes.remove.aside")
        remove_tree(doomed)

    def mounted_inside(self, name: str) -> list[str]:
        """Where others, or a container whose mounts the host sees, have mounted something below the volume's own place."""
        return [place for place in mount_points(f"{self._root}/{name}") if place != self.data(name)]

    def sweep(self, known: Mapping[str, Volume]) -> None:
        """Remove what is there without a record, and finish what an engine that was killed was copying. Before any volume is used."""
        for name in os.listdir(self._root):
            if name not in known:
                with logging_refusals(f"volume {name}, of which there is no record"):
                    self.remove(name)
            elif is_mount(known[name]):
                continue  # what is missing is copied when it is used
            elif os.path.exists(f"{self._root}/{name}/_unfinished"):
                self.move_in(name)
            else:
                remove_tree(f"{self._root}/{name}/_new")

    # -- mounts

    def mount(self, volume: Volume) -> None:
        """Mount a volume that is a mount, if it is not mounted yet. Raises `Refusal`."""
        path = self.data(volume.name)
        if not is_mount(volume) or path in mount_points(path):
            return
        options = volume.options or {}
        try:
            mount_fd = _mounted(options)
            try:
                mounts.attach_at(mount_fd, path)
            finally:
                os.close(mount_fd)
        except socket.gaierror as error:
            raise Refusal(
                f"error while mounting volume '{path}': error resolving passed in network volume address: {error.strerror}"
            ) from error
        except OSError as error:
            # security: the error's own text may have an option of the mount in it, which may be a password.
            reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
            raise Refusal(
                f"error while mounting volume '{path}': failed to mount local volume: mount {options['device']}:{path}: {reason}"
            ) from error

    def unmount(self, name: str) -> None:
        """Take the mounts away that are at a volume's place. Containers that run keep theirs. Idempotent."""
        path = self.data(name)
        while path in mount_points(path):
            mounts.detach(path)

    # -- what an image gives

    def is_empty(self, volume: Volume) -> bool:
        """Whether there is nothing in a volume, or nothing whole: an earlier copy into a mount was cut off."""
        if is_mount(volume) and os.path.exists(f"{self._root}/{volume.name}/_unfinished"):
            return True
        with os.scandir(self.data(volume.name)) as entries:
            return next(entries, None) is None

    def begin(self, volume: Volume) -> int:
        """A mount of the directory to copy into; the descriptor is the caller's."""
        top = f"{self._root}/{volume.name}"
        if is_mount(volume):
            _touch(f"{top}/_unfinished")
            place = self.data(volume.name)
        else:
            place = f"{top}/_new"
            remove_tree(place)
            os.mkdir(place, 0o755)
        mount_fd = mounts.clone_tree(place)
        # security: the copier reaches nothing above, and opens nothing as a device.
        mounts.set_attributes(mount_fd, add=mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOSUID, propagation=mounts.MS_PRIVATE)
        return mount_fd

    def finish(self, volume: Volume, *, is_seen: bool) -> None:
        """What was begun is whole; `is_seen`: containers see the volume's directory already."""
        top = f"{self._root}/{volume.name}"
        if is_mount(volume):
            os.unlink(f"{top}/_unfinished")
        elif is_seen:
            _touch(f"{top}/_unfinished")
            failpoints.reach("volumes.populate.moving")
            self.move_in(volume.name)
        else:
            os.rename(f"{top}/_new", f"{top}/_data")
            sync_directory(top)

    def abandon(self, volume: Volume) -> None:
        """What was begun came to nothing. A mount keeps its mark: what it has is not whole. Idempotent."""
        if not is_mount(volume):
            remove_tree(f"{self._root}/{volume.name}/_new")

    def move_in(self, name: str) -> None:
        """Move what is whole in `_new` to `_data`, but nothing over what somebody has put there meanwhile."""
        top = f"{self._root}/{name}"
        if os.path.exists(f"{top}/_new"):
            status = os.stat(f"{top}/_new")
            os.chown(f"{top}/_data", status.st_uid, status.st_gid)
            os.chmod(f"{top}/_data", status.st_mode & 0o7777)
            for entry in os.listdir(f"{top}/_new"):
                if not os.path.lexists(f"{top}/_data/{entry}"):
                    os.rename(f"{top}/_new/{entry}", f"{top}/_data/{entry}")
            remove_tree(f"{top}/_new")
        with ignoring_absence():
            os.unlink(f"{top}/_unfinished")


def is_mount(volume: Volume) -> bool:
    """Whether the volume is something that has to be mounted first."""
    return bool((volume.options or {}).get("device"))


def _mounted(options: Mapping[str, str]) -> int:
    """A detached mount as a volume's options say. Raises `OSError`."""
    kind, device = options["type"], options["device"]
    asked = MountOptions([word for word in options.get("o", "").split(",") if word])
    if asked.bind:
        if not os.path.isdir(device):
            os.stat(device)  # that it is not there is another refusal
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), device)
        mount_fd = mounts.clone_tree(device, recursive=asked.recursive)
        if asked.add or asked.clear:
            mounts.set_attributes(mount_fd, add=asked.add, clear=asked.clear)
    else:
        data = [(key, _address(value) if key == "addr" and value and kind in _NETWORK_TYPES else value) for key, value in asked.data]
        mount_fd = mounts.new_filesystem(kind, data, asked.add, source=device)
    # Into containers it goes as a bind of its own; what they do with it is not to come back here.
    mounts.set_attributes(mount_fd, propagation=mounts.MS_PRIVATE, recursive=True)
    return mount_fd


def _address(host: str) -> str:
    """kernel: knows no names of hosts. Raises `socket.gaierror`."""
    try:
        return str(socket.getaddrinfo(host, None)[0][4][0])
    except socket.gaierror as error:
        raise socket.gaierror(error.errno, f"lookup {host}: {(error.strerror or str(error)).lower()}") from error


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    sync_directory(os.path.dirname(path))
