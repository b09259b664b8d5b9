"""The layer that all containers have below those of their images: what tools look for in a container, and places to mount on.

docker: daemon/initlayer/setup_unix.go. There each container has such a layer of its own, over its image; here what an image has counts.
Since it is a layer, nothing of it is a change of the container's: not to `diff`, not to `commit`, and `export` has it.
"""

from __future__ import annotations

import contextlib
import os
import stat

_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys")
_FILES = (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_LINKS = (("etc/mtab", "/proc/mounts"),)


def make_lowest_layer(path: str) -> None:
    """Make the layer, or what is missing of it, at `path`. Idempotent; blocking."""
    os.makedirs(path, mode=0o755, exist_ok=True)
    os.chmod(path, 0o755)  # the mode of a root that no image says anything of, whatever the umask is
    for name in _DIRECTORIES:
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{path}/{name}")
        os.chmod(f"{path}/{name}", 0o755)
    for name in _FILES:
        with contextlib.suppress(FileExistsError):
            os.mknod(f"{path}/{name}", stat.S_IFREG)
        os.chmod(f"{path}/{name}", 0o755)
    for name, target in _LINKS:
        with contextlib.suppress(FileExistsError):
            os.symlink(target, f"{path}/{name}")
