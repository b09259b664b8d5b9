"""A file that is written once, front to back, and whose digest and size are known at the end."""

from __future__ import annotations

import hashlib

from teul.store.atomic import write_all


class HashedFile:
    """Writes a stream to a descriptor, unless that is None, and knows the stream's digest and size."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._hasher = hashlib.sha256()
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Write all of `chunk`. Raises `OSError`."""
        if self._fd is not None:
            write_all(self._fd, chunk)
        self._hasher.update(chunk)
        self.size_bytes += len(chunk)

    @property
    def digest(self) -> str:
        """Of all that was written so far."""
        return f"sha256:{self._hasher.hexdigest()}"
