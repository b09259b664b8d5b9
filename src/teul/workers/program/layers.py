"""A worker's whole life: read the order, shut the door, do the job, report, end.

The order is one JSON argument; the input is descriptor 0, the report (JSON lines) descriptor 1. The last line is either
{"done": …} or {"error": text, "kind": "invalid" | "limit" | "system" | "bug"}; a report without it means that the worker died.

Jobs: `split` an image archive into numbered files; `unpack` a layer whose bytes are known already; `ingest` a layer from a stream, keeping
what came (recompressed never; decompressed if the registry formats have no name for its compression) in descriptor `keep_fd`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import traceback
from collections.abc import Iterator
from typing import Any

from teul.store.atomic import write_all
from teul.wire.tar import TarError, TarReader
from teul.workers.program.confine import UNPACK_CAPABILITIES, confine
from teul.workers.program.extract import Extractor, Hostile
from teul.workers.program.split import Splitter
from teul.workers.program.streams import CHUNK_BYTES, ChunkSource, LimitExceeded, StreamError, decompressed, sniff, tapped, teed

_SOURCE_FD = 0
_REPORT_FD = 1
# What the kernel says about paths that only an impossible archive has.
_ARCHIVE_ERRNOS = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EMLINK, errno.EMFILE})


def main(order_text: str) -> None:
    """Carry out the order and end the process."""
    order = json.loads(order_text)
    capabilities = () if order["job"] == "split" else UNPACK_CAPABILITIES
    try:
        confine(order["root"], capabilities, order["parent_pid"])
        report({"done": _JOBS[order["job"]](order)})
    except LimitExceeded as error:
        _fail("limit", str(error))
    except (TarError, StreamError, Hostile) as error:
        _fail("invalid", str(error))
    except OSError as error:
        _fail("invalid" if error.errno in _ARCHIVE_ERRNOS else "system", str(error.args[-1]))
    except MemoryError:
        _fail("limit", "the archive needs more memory than a worker may have")
    except Exception:  # noqa: BLE001 - boundary: the process ends here, the engine logs this
        _fail("bug", traceback.format_exc())
    # Nothing is left to be flushed or closed, and a worker that unpacked a lot is slow to take its memory apart.
    os._exit(0)


def report(message: dict[str, Any]) -> None:
    """Tell the engine; waits while it does not read."""
    write_all(_REPORT_FD, json.dumps(message).encode() + b"\n")


def _fail(kind: str, text: str) -> None:
    report({"error": text, "kind": kind})


def _split(order: dict[str, Any]) -> dict[str, Any]:
    chunks, compression = _sniffed(_chunks())
    # The archive's own size is limited by its members; this is against compressed emptiness around them.
    limit_bytes = order["limit_bytes"] + (order["limit_bytes"] >> 4) + (1 << 20)
    source = ChunkSource(tapped(decompressed(chunks, compression), hasher=None, limit_bytes=limit_bytes))
    Splitter(TarReader(source), report, limit_bytes=order["limit_bytes"], limit_entries=order["limit_entries"]).run()
    # A sender that is cut off while it writes calls the load failed; also, a compressed archive is only known to be whole at its end.
    source.drain()
    return {}


def _unpack(order: dict[str, Any]) -> dict[str, Any]:
    hasher = hashlib.sha256() if order["hash"] else None
    extractor = _extract(tapped(decompressed(_chunks(), order["compression"]), hasher=hasher, limit_bytes=order["limit_bytes"]), order)
    return {**_counters(extractor), "diff_id": f"sha256:{hasher.hexdigest()}" if hasher is not None else None}


def _ingest(order: dict[str, Any]) -> dict[str, Any]:
    diff_hasher = hashlib.sha256()
    keeper = _Keeper(order["keep_fd"])
    chunks, compression = _sniffed(_chunks())
    if compression in ("", "gzip", "zstd"):
        plain = decompressed(teed(chunks, keeper.write), compression)
    else:
        plain = teed(decompressed(chunks, compression), keeper.write)
        compression = ""
    extractor = _extract(tapped(plain, hasher=diff_hasher, limit_bytes=order["limit_bytes"]), order)
    return {
        **_counters(extractor),
        "diff_id": f"sha256:{diff_hasher.hexdigest()}",
        "digest": f"sha256:{keeper.hasher.hexdigest()}",
        "blob_size": keeper.size_bytes,
        "compression": compression,
    }


_JOBS = {"split": _split, "unpack": _unpack, "ingest": _ingest}


class _Keeper:
    """Writes a stream to a descriptor and knows its digest."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.hasher = hashlib.sha256()
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        write_all(self._fd, chunk)
        self.hasher.update(chunk)
        self.size_bytes += len(chunk)


def _extract(chunks: Iterator[bytes], order: dict[str, Any]) -> Extractor:
    source = ChunkSource(chunks)
    extractor = Extractor(TarReader(source), limit_bytes=order["limit_bytes"], limit_entries=order["limit_entries"])
    extractor.run()
    source.drain()
    return extractor


def _counters(extractor: Extractor) -> dict[str, Any]:
    opaque = sorted(os.fsdecode(path) for path in extractor.opaque)
    return {"size": extractor.size_bytes, "entries": extractor.entries, "opaque": opaque}


def _chunks() -> Iterator[bytes]:
    while chunk := os.read(_SOURCE_FD, CHUNK_BYTES):
        yield chunk


def _sniffed(chunks: Iterator[bytes]) -> tuple[Iterator[bytes], str]:
    """The same chunks, and how they are compressed."""
    head = b""
    while len(head) < 6 and (chunk := next(chunks, b"")):
        head += chunk
    return _prefixed(head, chunks), sniff(head)


def _prefixed(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks
