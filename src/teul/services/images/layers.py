"""Making a layer of its archive, in the form that this root's layers get: an index over the archive, or its files.

An archive of which an index cannot say everything (a sparse file of millions of pieces, say) is unpacked. Whatever touches the layer's
directory is waited for, also by a caller that is cancelled: the directory is about to be removed then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from teul.aio import run_blocking, run_to_end
from teul.oci.digest import Digest
from teul.services.images.store import ImageStore
from teul.store.atomic import remove_tree
from teul.store.layer_files import ARCHIVE_FILE, FILES_DIRECTORY
from teul.workers.layers import Limits, Unpacked, index_blob, index_stream, ingest, unpack

log = logging.getLogger(__name__)

_MAGICS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zX": "xz", b"BZh": "bzip2"}


@dataclass(frozen=True, slots=True)
class ArrivedLayer:
    """A layer that was made while it arrived, and its blob as it came, in the file `blob_path`."""

    unpacked: Unpacked
    digest: Digest
    size_bytes: int
    compression: str
    blob_path: str


def compression_of(path: str) -> str:
    """How the blob in the file `path` is compressed, if in a way that layers are; "" otherwise. Blocks."""
    with open(path, "rb") as file:
        head = file.read(4)
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), "")


async def make_layer(
    store: ImageStore, blob_path: str, compression: str, directory: str, limits: Limits, *, diff_id: Digest | None
) -> Unpacked:
    """Make the new `directory` the layer whose archive is `blob_path`.

    `diff_id` is given if the archive is uncompressed and its digest known: then the layer shares the file. Raises InvalidArchive or System.
    """
    await run_to_end(run_blocking(os.mkdir, directory, 0o700))
    if store.indexes:
        indexed = await index_blob(blob_path, directory, limits, diff_id=diff_id)
        if not indexed.unindexable:
            if diff_id is not None:
                await run_to_end(run_blocking(os.link, blob_path, os.path.join(directory, ARCHIVE_FILE)))
            return indexed.unpacked
        await _start_over(directory, indexed.unindexable)
    return await _unpack(store, blob_path, compression, directory, limits, diff_id=diff_id)


async def take_layer(store: ImageStore, stream: AsyncIterator[bytes], directory: str, limits: Limits, *, as_it_came: bool) -> ArrivedLayer:
    """Make the new `directory` the layer whose archive `stream` brings, compressed or not.

    The blob is kept beside the directory: `as_it_came`, or decompressed where the registry formats have no name for its compression.
    Raises InvalidArchive or System, and whatever `stream` raises.
    """
    await run_to_end(run_blocking(os.mkdir, directory, 0o700))
    blob_path = f"{directory}.blob"
    if not store.indexes:
        root = os.path.join(directory, FILES_DIRECTORY)
        await run_to_end(run_blocking(os.mkdir, root, 0o755))
        done = await ingest(stream, blob_path, root, limits, store.slow, as_it_came=as_it_came)
        return ArrivedLayer(done.unpacked, done.digest, done.blob_size_bytes, done.compression, blob_path)
    indexed = await index_stream(stream, blob_path, directory, limits, as_it_came=as_it_came)
    assert indexed.digest is not None, "the blob is kept"
    digest, size_bytes = indexed.digest, indexed.blob_size_bytes
    unpacked = indexed.unpacked
    if indexed.unindexable:
        diff_id = None if indexed.compression else digest
        await _start_over(directory, indexed.unindexable)
        unpacked = await _unpack(store, blob_path, indexed.compression, directory, limits, diff_id=diff_id)
    return ArrivedLayer(unpacked, digest, size_bytes, indexed.compression, blob_path)


async def _unpack(
    store: ImageStore, blob_path: str, compression: str, directory: str, limits: Limits, *, diff_id: Digest | None
) -> Unpacked:
    root = os.path.join(directory, FILES_DIRECTORY)
    await run_to_end(run_blocking(os.mkdir, root, 0o755))
    return await unpack(blob_path, compression, root, limits, store.slow, diff_id=diff_id)


async def _start_over(directory: str, reason: str) -> None:
    log.info("a layer is unpacked, for it cannot be indexed: %s", reason)
    await run_to_end(run_blocking(remove_tree, directory))
    await run_to_end(run_blocking(os.mkdir, directory, 0o700))
