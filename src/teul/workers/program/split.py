"""An image archive taken apart: each member becomes a numbered file in the current root directory, described on the report.

No name from the archive is ever used as a path. Links inside the archive are reported too; the engine follows them by looking their
targets up among the reported names.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from teul.store.atomic import write_all
from teul.wire.tar import DIRECTORY, LINK, REGULAR, SYMLINK, Entry, TarError, TarReader
from teul.workers.program.streams import MAGIC_BYTES, LimitExceeded, looks_like_tar, sniff

if TYPE_CHECKING:
    from teul.workers.program.messages import FileMember, LinkMember, MemberLine

# spec: OCI image-spec image-layout.md, "blobs"; a blob is checked with the algorithm in its path.
_BLOB = re.compile(rb"(?:\./)*blobs/(sha256|sha384|sha512)/[0-9a-f]+")


class Splitter:
    """Splits one archive. A splitter is used once: `run`."""

    def __init__(self, reader: TarReader, report: Callable[[MemberLine], None], *, limit_bytes: int, limit_entries: int) -> None:
        self._reader = reader
        self._report = report
        self._limit_bytes = limit_bytes
        self._limit_entries = limit_entries
        self._total_bytes = 0

    def run(self) -> None:
        """Raises `TarError`, `StreamError` or `OSError`; the files written by then mean nothing."""
        number = 0
        while (entry := self._reader.next()) is not None:
            number += 1
            if number > self._limit_entries:
                raise LimitExceeded(f"the archive has more than {self._limit_entries} entries")
            name = os.fsdecode(entry.name)
            if entry.type == REGULAR:
                self._file(number, name, entry)
            elif entry.type in (LINK, SYMLINK):
                self._report({"member": _link(name, entry)})
            elif entry.type != DIRECTORY:
                raise TarError(f'"{name}": an image archive has no devices')

    def _file(self, number: int, name: str, entry: Entry) -> None:
        if entry.segments is not None:
            raise TarError(f'"{name}": an image archive has no sparse files')
        self._total_bytes += entry.size_bytes
        if self._total_bytes > self._limit_bytes:
            raise LimitExceeded(f"the archive is larger than the limit of {self._limit_bytes} bytes")
        blob = _BLOB.fullmatch(entry.name)
        algorithm = blob[1].decode() if blob is not None else "sha256"
        hasher = hashlib.new(algorithm)
        head = b""
        fd = os.open(str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            for piece in self._reader.data():
                if len(head) < MAGIC_BYTES:
                    head += bytes(piece[: MAGIC_BYTES - len(head)])
                hasher.update(piece)
                write_all(fd, piece)
        finally:
            os.close(fd)
        compression = sniff(head)
        member: FileMember = {
            "name": name,
            "type": "file",
            "file": str(number),
            "size": entry.size_bytes,
            "digest": f"{algorithm}:{hasher.hexdigest()}",
            "compression": compression,
            "archive": compression in ("gzip", "zstd") or (not compression and looks_like_tar(head)),
        }
        self._report({"member": member})


def _link(name: str, entry: Entry) -> LinkMember:
    return {"name": name, "type": "symlink" if entry.type == SYMLINK else "link", "target": os.fsdecode(entry.link)}
