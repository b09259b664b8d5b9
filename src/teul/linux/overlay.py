"""Mounting overlayfs. stdlib and ctypes only."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from teul.linux import mounts


def mount_overlay(lower: Sequence[str | int], upper: str, work: str, path: str) -> int:
    """Mount the layers `lower` (topmost first), `upper` and `work` at `path`; returns a descriptor of the result's top directory.

    A layer is a directory's path or a mount's descriptor. Every one is its own option, so no path needs escaping. Raises `OSError`.
    """
    options: list[tuple[str, str | int | None]] = [("lowerdir+", directory) for directory in lower]
    options += [("upperdir", upper), ("workdir", work)]
    try:
        mount_fd = mounts.new_filesystem("overlay", options, source="overlay")
    except OSError as error:
        # kernel: "lowerdir+" came with Linux 6.8.
        if error.errno != errno.EINVAL or any(isinstance(layer, int) for layer in lower):
            raise
        return _mount_in_one_line(lower, upper, work, path)
    mounts.attach_at(mount_fd, path)
    return mount_fd


def stack_layers(lower: Sequence[str | int]) -> int:
    """A detached mount, for reading only, of the layers `lower` as of `mount_overlay`; returns its descriptor. Raises `OSError`."""
    if len(lower) == 1 and isinstance(lower[0], str):
        mount_fd = mounts.clone_tree(lower[0])
        mounts.set_attributes(mount_fd, add=mounts.MOUNT_ATTR_RDONLY, propagation=mounts.MS_PRIVATE)
        return mount_fd
    if len(lower) > 1:
        return mounts.new_filesystem("overlay", [("lowerdir+", layer) for layer in lower], mounts.MOUNT_ATTR_RDONLY, source="overlay")
    empty_fd = mounts.new_filesystem("tmpfs", [("mode", "755")], mounts.MOUNT_ATTR_RDONLY, source="tmpfs")
    if not lower:
        return empty_fd
    try:
        # kernel: one layer alone is no overlay.
        return stack_layers([*lower, empty_fd])
    finally:
        os.close(empty_fd)


def _mount_in_one_line(lower: Sequence[str | int], upper: str, work: str, path: str) -> int:
    """As `mount_overlay`, for kernels that want all layers in one option.

    fsconfig(2) takes at most 255 bytes of an option, mount(2) a page for all options. Paths by descriptor are short enough for some 200
    layers, and have none of the signs (":", ",", "\\") that mean something in the options.
    """
    directories = [layer for layer in (*lower, upper, work) if isinstance(layer, str)]
    fds = [os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for directory in directories]
    try:
        *lower_paths, upper_path, work_path = (f"/proc/self/fd/{fd}" for fd in fds)
        mounts.mount("overlay", path, f"lowerdir={':'.join(lower_paths)},upperdir={upper_path},workdir={work_path}", source="overlay")
    finally:
        for fd in fds:
            os.close(fd)
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
