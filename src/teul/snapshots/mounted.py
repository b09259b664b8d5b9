"""The mounts of indexed layers that an engine holds, one for all containers that stand on the layer.

So they share the layer's files in memory, also where the layer is in several chains: its index is one file under several names then. A
mount is made when it is first asked for, and held until all its chains are removed or the engine ends. A container that runs, and a view
that a worker has of one, hold what they stand on by themselves.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from teul.snapshots import erofs


@dataclass(slots=True)
class _Held:
    fd: int
    chains: set[str] = field(default_factory=set)


class MountedLayers:
    """The held mounts. Every method blocks, and may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[int, int], _Held] = {}  # by the device and inode number of the index
        self._keys: dict[str, tuple[int, int]] = {}  # by chain

    def duplicate(self, chain: str, index_path: str, archive_path: str) -> int:
        """A descriptor of the layer's mount, which is the caller's; `chain` is the layer's name for `forget`. Raises `OSError`."""
        with self._lock:
            if chain not in self._keys:
                status = os.stat(index_path)
                key = (status.st_dev, status.st_ino)
                if key not in self._held:
                    self._held[key] = _Held(erofs.mount_layer(index_path, archive_path))
                self._held[key].chains.add(chain)
                self._keys[chain] = key
            return os.dup(self._held[self._keys[chain]].fd)

    def forget(self, chain: str) -> None:
        """The layer is being removed. Idempotent."""
        with self._lock:
            key = self._keys.pop(chain, None)
            if key is None:
                return
            held = self._held[key]
            held.chains.discard(chain)
            if not held.chains:
                del self._held[key]
                os.close(held.fd)

    def close(self) -> None:
        """Let go of all mounts."""
        with self._lock:
            for held in self._held.values():
                os.close(held.fd)
            self._held.clear()
            self._keys.clear()
