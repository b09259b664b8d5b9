"""The jobs on what a container has changed: list it, and make a layer of it. Loaded for these jobs only: see `rootfs`."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from teul.wire.erofs import BLOCK_BYTES, HEAD_BYTES, Unrepresentable, encode
from teul.workers.program.changes import list_changes
from teul.workers.program.changeset import ChangesetWriter
from teul.workers.program.hashed_file import HashedFile
from teul.workers.program.index import write_at
from teul.workers.program.view import enter_directories

if TYPE_CHECKING:
    from teul.workers.program.messages import ChangesetOrder, ChangesetResult, ChangesOrder, ChangesResult

_CAPABILITIES = ("CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN")


def tell_changes(order: ChangesOrder) -> ChangesResult:
    # CAP_SYS_ADMIN is needed to read the overlay's marks; this job opens no archive, writes nothing and follows no symlink.
    upper_fd, *lower_fds = enter_directories(order["upper"], order["lower"], _CAPABILITIES, order["parent_pid"])
    found = list_changes(upper_fd, lower_fds)
    return {"changes": [(kind, os.fsdecode(path)) for kind, path in found]}


def write_changeset(order: ChangesetOrder) -> ChangesetResult:
    gc.disable()  # the tree is kept to the end
    # CAP_SYS_ADMIN as in `tell_changes`; what is written goes to files that nobody else reads yet.
    upper_fd, *lower_fds = enter_directories(order["upper"], order["lower"], _CAPABILITIES, order["parent_pid"])
    archive = HashedFile(order["archive_fd"])
    writer = ChangesetWriter(archive)
    writer.run(upper_fd, lower_fds)
    unindexable = ""
    if order["index_fd"] is not None:
        first_block = HEAD_BYTES // BLOCK_BYTES
        try:
            head, metadata = encode(writer.root, first_block=first_block, archive_bytes=archive.size_bytes)
        except Unrepresentable as error:
            unindexable = str(error)
        else:
            write_at(order["index_fd"], metadata, first_block * BLOCK_BYTES)
            write_at(order["index_fd"], head, 0)
    return {
        "size": writer.size_bytes,
        "entries": writer.entries,
        "unindexable": unindexable,
        "diff_id": archive.digest,
        "archive_size": archive.size_bytes,
    }
