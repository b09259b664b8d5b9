"""The program that works on the files of one volume: pack it, unpack an archive in an empty one, copy one into another.

The order is one JSON argument; an archive comes on descriptor 0 or leaves on the descriptor `data_fd`; descriptor 1 takes the report
(`messages`). Archives are not trusted: entries are placed as `place` does it, and the volume is all that the process reaches.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import TYPE_CHECKING

import zstandard

from teul.linux import mounts
from teul.wire.tar import TarError, TarReader
from teul.workers.program.confine import MOUNT_ATTRIBUTES, enter_root, lock, seclude
from teul.workers.program.decompression import decompressed
from teul.workers.program.entries import Refused
from teul.workers.program.pack import Compressor, Packer
from teul.workers.program.place import Placer
from teul.workers.program.populate import Copier
from teul.workers.program.report import SOURCE_FD, Rule, finish, report
from teul.workers.program.streams import ChunkSource, StreamError, read_chunks, sniffed
from teul.workers.program.view import enter_directories

if TYPE_CHECKING:
    from teul.workers.program.messages import Nothing, VolumeCloneOrder, VolumeExportOrder, VolumeImportOrder, VolumesOrder

_READING = ("CAP_DAC_READ_SEARCH",)
_WRITING = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP")
_GZIP = 16 + zlib.MAX_WBITS
_RULES = (Rule("invalid", TarError, StreamError, Refused), Rule("system", OSError, MemoryError))


def main(order_text: str) -> None:
    """Carry out the order and end the process."""
    order: VolumesOrder = json.loads(order_text)
    finish(lambda: _carry_out(order), _RULES)


def _carry_out(order: VolumesOrder) -> Nothing:
    match order["job"]:
        case "export-volume":
            return _export(order)
        case "import-volume":
            return _import(order)
        case "clone-volume":
            return _clone(order)


def _export(order: VolumeExportOrder) -> Nothing:
    compressor = _compressor(order["compression"])
    # `changing`: to list attributes is among the calls of those who set them. What is reached is mounted read-only.
    [volume_fd] = enter_directories(order["path"], (), _READING, order["parent_pid"], changing=True)
    report({"entered": True})
    packer = Packer(order["data_fd"], whole=True, compressor=compressor)
    packer.add_directory(volume_fd, b"./")
    packer.finish()
    return {}


def _import(order: VolumeImportOrder) -> Nothing:
    seclude(order["parent_pid"])
    mounts.set_attributes(order["target_fd"], add=MOUNT_ATTRIBUTES)
    mounts.attach_at(order["target_fd"], order["stage"])
    enter_root(order["target_fd"])
    lock(_WRITING, changing=True)
    report({"entered": True})
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    source = ChunkSource(decompressed(*sniffed(read_chunks(SOURCE_FD))))
    Placer(TarReader(source), root_fd, b"", owner=None, no_overwrite=False, whole=True).run()
    # What follows the end is read too: a client that is cut off while it writes would call the import failed.
    source.drain()
    return {}


def _clone(order: VolumeCloneOrder) -> Nothing:
    target_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=order["target_fd"])
    [source_fd] = enter_directories(order["path"], (), (*_READING, *_WRITING), order["parent_pid"], changing=True)
    Copier().copy(source_fd, target_fd)
    return {}


def _compressor(compression: str) -> Compressor | None:
    match compression:
        case "gzip":
            return zlib.compressobj(wbits=_GZIP)
        case "zstd":
            return zstandard.ZstdCompressor(level=3).compressobj()
        case _:
            return None
