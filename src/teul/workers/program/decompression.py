"""Compressed streams made plain. A module of its own, since its libraries are slow to load, and most workers have no use for them."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterator
from typing import Any, cast

import zstandard
from isal import igzip_lib

from teul.wire.tar import Truncated
from teul.workers.program.streams import CHUNK_BYTES, StreamError

# How much compressed input zstandard gets at once: it sets no limit to its output, and a block of four bytes can become 128 KiB.
_ZSTD_INPUT_BYTES = 8 << 10
# The limit of the zstd program without --long.
_ZSTD_WINDOW_BYTES = 128 << 20
_XZ_MEMORY_BYTES = 512 << 20


def decompressed(chunks: Iterator[bytes], compression: str) -> Iterator[bytes]:
    """The content of `chunks`; several frames in a row count as one file, as with the programs gzip, zstd, xz and bzip2."""
    if not compression:
        return chunks
    if compression == "zstd":
        return _zstd(chunks)
    return _bounded(chunks, _DECOMPRESSORS[compression])


def _gzip_decompressor() -> Any:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _xz_decompressor() -> Any:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)


# All three have the interface of bz2.BZ2Decompressor.
_DECOMPRESSORS: dict[str, Callable[[], Any]] = {"gzip": _gzip_decompressor, "xz": _xz_decompressor, "bzip2": bz2.BZ2Decompressor}
# isal's stubs say that the name is an instance.
_ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)
_ERRORS = (_ISAL_ERROR, lzma.LZMAError, OSError, EOFError, ValueError)


def _bounded(chunks: Iterator[bytes], make: Callable[[], Any]) -> Iterator[bytes]:
    decompressor = None
    for chunk in chunks:
        data = chunk
        while True:
            if decompressor is None:
                if not data:
                    break
                decompressor = make()
            try:
                output = decompressor.decompress(data, CHUNK_BYTES)
            except _ERRORS as error:
                raise StreamError(f"invalid compressed data: {error}") from error
            if output:
                yield output
            if decompressor.eof:
                data, decompressor = decompressor.unused_data, None
            elif decompressor.needs_input:
                break
            else:
                data = b""
    if decompressor is not None:
        raise Truncated


def _zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    decompressor = None
    outputs: list[bytes] = []
    gathered = 0
    for chunk in chunks:
        for start in range(0, len(chunk), _ZSTD_INPUT_BYTES):
            data = chunk[start : start + _ZSTD_INPUT_BYTES]
            while data:
                if decompressor is None:
                    decompressor = context.decompressobj()
                try:
                    output = decompressor.decompress(data)
                except (zstandard.ZstdError, MemoryError) as error:
                    raise StreamError(f"invalid compressed data: {error}") from error
                outputs.append(output)
                gathered += len(output)
                data = b""
                if decompressor.eof:
                    data, decompressor = decompressor.unused_data, None
            # Few large chunks are better than many small ones: at every seam between two the tar reader has to join bytes.
            if gathered >= CHUNK_BYTES // 2:
                yield b"".join(outputs)
                outputs, gathered = [], 0
    if gathered:
        yield b"".join(outputs)
    if decompressor is not None:
        raise Truncated
