"""The program that opens layers and image archives: read the order, shut the door, do the job, report, end.

The order is one JSON argument, the archive comes on descriptor 0, and descriptor 1 takes the report (`messages`).

Jobs: `split` an image archive into numbered files; `unpack` a layer that is stored already; `ingest` a layer from a stream, and write it to
the descriptor `keep_fd` as it came, or decompressed if the registry formats have no name for its compression; `index` a layer, which
takes no privilege at all.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from teul.wire.erofs import BLOCK_BYTES, Unrepresentable, encode
from teul.wire.tar import TarError, TarReader
from teul.workers.program.confine import UNPACK_CAPABILITIES, confine
from teul.workers.program.decompression import decompressed
from teul.workers.program.entries import Refused
from teul.workers.program.extract import Extractor
from teul.workers.program.hashed_file import HashedFile
from teul.workers.program.index import Indexer, SideArea, write_at
from teul.workers.program.report import SOURCE_FD, Rule, finish, report
from teul.workers.program.split import Splitter
from teul.workers.program.streams import (
    ChunkSource,
    FileSource,
    LimitExceeded,
    StreamError,
    read_chunks,
    sniffed,
    tapped,
    teed,
)

if TYPE_CHECKING:
    from teul.workers.program.messages import (
        IndexOrder,
        IndexResult,
        IngestOrder,
        IngestResult,
        LayersOrder,
        Nothing,
        Result,
        SplitOrder,
        UnpackOrder,
        UnpackResult,
    )

# The kernel's errors for paths that only an impossible archive has.
_ARCHIVE_ERRNOS = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EMLINK, errno.EMFILE})
_RULES = (
    Rule("limit", LimitExceeded, MemoryError),
    Rule("invalid", TarError, StreamError, Refused),
    Rule("invalid", OSError, errnos=_ARCHIVE_ERRNOS),
    Rule("system", OSError),
)


def main(order_text: str) -> None:
    """Carry out the order and end the process."""
    order: LayersOrder = json.loads(order_text)
    # A layer's tree is kept to the end: looking for garbage in it, again and again as it grows, finds none.
    gc.disable()
    finish(lambda: _carry_out(order), _RULES)


def _carry_out(order: LayersOrder) -> Result:
    unpacks = order["job"] in ("unpack", "ingest")
    confine(order["root"], UNPACK_CAPABILITIES if unpacks else (), order["parent_pid"], changing=unpacks)
    match order["job"]:
        case "split":
            return _split(order)
        case "unpack":
            return _unpack(order)
        case "ingest":
            return _ingest(order)
        case "index":
            return _index(order)


def _split(order: SplitOrder) -> Nothing:
    chunks, compression = sniffed(read_chunks(SOURCE_FD))
    # The splitter limits the size of all members together; this limit is against endless zeros around them in a compressed archive.
    limit_bytes = order["limit_bytes"] + (order["limit_bytes"] >> 4) + (1 << 20)
    source = ChunkSource(tapped(decompressed(chunks, compression), hasher=None, limit_bytes=limit_bytes))
    Splitter(TarReader(source), report, limit_bytes=order["limit_bytes"], limit_entries=order["limit_entries"]).run()
    # The archive's padding is read too: a client that is cut off while it writes calls the load failed, and whether a compressed archive
    # is whole is known at its end only.
    source.drain(limit_bytes=order["trailing_bytes"])
    return {}


def _unpack(order: UnpackOrder) -> UnpackResult:
    hasher = hashlib.sha256() if order["hash"] else None
    plain = decompressed(read_chunks(SOURCE_FD), order["compression"])
    extractor = _extract(tapped(plain, hasher=hasher, limit_bytes=order["limit_bytes"]), order)
    return _result(extractor, hasher.hexdigest() if hasher is not None else "")


def _ingest(order: IngestOrder) -> IngestResult:
    diff_hasher = hashlib.sha256()
    keeper = HashedFile(order["keep_fd"])
    chunks, compression = sniffed(read_chunks(SOURCE_FD))
    if order["as_it_came"] or compression in ("", "gzip", "zstd"):
        plain = decompressed(teed(chunks, keeper.write), compression)
    else:
        plain = teed(decompressed(chunks, compression), keeper.write)
        compression = ""
    extractor = _extract(tapped(plain, hasher=diff_hasher, limit_bytes=order["limit_bytes"]), order)
    return {
        **_result(extractor, diff_hasher.hexdigest()),
        "digest": keeper.digest,
        "blob_size": keeper.size_bytes,
        "compression": compression,
    }


def _index(order: IndexOrder) -> IndexResult:
    if order["archive_fd"] is None:
        return _indexed(order, FileSource(SOURCE_FD), None, None, "")
    archive = HashedFile(order["archive_fd"])
    chunks, compression = sniffed(read_chunks(SOURCE_FD))
    blob = archive
    if compression and (order["as_it_came"] or compression in ("gzip", "zstd")):
        blob = HashedFile(order["keep_fd"])
        plain = decompressed(teed(chunks, blob.write), compression)
    else:
        plain = decompressed(chunks, compression)
        compression = ""
    source = ChunkSource(tapped(teed(plain, archive.write), hasher=None, limit_bytes=order["limit_bytes"]))
    return _indexed(order, source, archive, blob, compression)


def _indexed(
    order: IndexOrder, source: ChunkSource | FileSource, archive: HashedFile | None, blob: HashedFile | None, compression: str
) -> IndexResult:
    side = SideArea(order["index_fd"])
    indexer = Indexer(lambda: source.position, TarReader(source), side)
    indexer.run(limit_bytes=order["limit_bytes"], limit_entries=order["limit_entries"])
    source.drain(limit_bytes=order["trailing_bytes"])
    unindexable = ""
    try:
        head, metadata = encode(indexer.root, first_block=side.end_block, archive_bytes=source.position)
    except Unrepresentable as error:
        unindexable = str(error)
    else:
        write_at(order["index_fd"], metadata, side.end_block * BLOCK_BYTES)
        write_at(order["index_fd"], head, 0)
    return {
        "size": indexer.size_bytes,
        "entries": indexer.entries,
        "unindexable": unindexable,
        "diff_id": archive.digest if archive is not None else "",
        "archive_size": source.position,
        "digest": blob.digest if blob is not None else "",
        "blob_size": blob.size_bytes if blob is not None else 0,
        "compression": compression,
    }


def _extract(chunks: Iterator[bytes], order: UnpackOrder | IngestOrder) -> Extractor:
    source = ChunkSource(chunks)
    extractor = Extractor(TarReader(source), limit_bytes=order["limit_bytes"], limit_entries=order["limit_entries"])
    extractor.run()
    source.drain(limit_bytes=order["trailing_bytes"])
    return extractor


def _result(extractor: Extractor, diff_hex: str) -> UnpackResult:
    return {
        "size": extractor.size_bytes,
        "entries": extractor.entries,
        "opaque": sorted(os.fsdecode(path) for path in extractor.opaque),
        "diff_id": f"sha256:{diff_hex}" if diff_hex else "",
    }
