"""Layers and archives, taken apart by worker processes (`workers.program.layers`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from teul.aio import SlowWork, run_blocking, run_to_end
from teul.errors import System
from teul.linux.paths import open_in_root
from teul.oci.digest import Digest
from teul.store.layer_files import ARCHIVE_FILE, INDEX_FILE
from teul.wire.tar import TRAILING_BYTES
from teul.workers.client import InvalidArchive, Program, feeding, running_worker

if TYPE_CHECKING:
    from teul.workers.program.messages import (
        DoneLine,
        FileMember,
        IndexOrder,
        IndexResult,
        IngestOrder,
        IngestResult,
        LinkMember,
        MemberLine,
        SplitOrder,
        UnpackOrder,
        UnpackResult,
    )

_PROGRAM = Program(
    "layers",
    errors={"invalid": InvalidArchive, "limit": InvalidArchive, "system": System},
    death="the worker {pid} that unpacks the archive died",
    bug="internal error while unpacking the archive",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may contain before it is taken for a bomb. Bytes are counted after decompression."""

    archive_bytes: int = 256 << 30
    archive_entries: int = 100_000
    layer_bytes: int = 256 << 30
    layer_entries: int = 10_000_000
    trailing_bytes: int = TRAILING_BYTES


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an image archive. A file's bytes are in `path`; a link has a `target` instead.

    `compression` is what the file's first bytes say; `is_archive` says whether the file may be a layer.
    """

    name: str
    type: str
    path: str = ""
    target: str = ""
    size_bytes: int = 0
    digest: Digest | None = None
    compression: str = ""
    is_archive: bool = False


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A layer that lies unpacked in a directory."""

    diff_id: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Ingested:
    """A layer that was unpacked and kept while it arrived; `digest`, `blob_size_bytes` and `compression` are the kept blob's."""

    unpacked: Unpacked
    digest: Digest
    blob_size_bytes: int
    compression: str


@dataclass(frozen=True, slots=True)
class Indexed:
    """A layer with an index over its uncompressed archive. `unindexable` says why there is none; "" if there is.

    `digest`, `blob_size_bytes` and `compression` are those of the blob that was kept, if one was to be kept. The blob of an uncompressed
    layer is its archive.
    """

    unpacked: Unpacked
    unindexable: str
    archive_size_bytes: int
    digest: Digest | None
    blob_size_bytes: int
    compression: str


async def unpack(blob_path: str, compression: str, directory: str, limits: Limits, slow: SlowWork, *, diff_id: Digest | None) -> Unpacked:
    """Unpack the layer in `blob_path` into the empty `directory`.

    `diff_id` is given if the layer is uncompressed and its digest known; otherwise the diff id is computed. Raises `InvalidArchive` or
    `System`.
    """
    order: UnpackOrder = {
        "job": "unpack",
        "parent_pid": os.getpid(),
        "root": directory,
        "compression": compression,
        "hash": diff_id is None,
        "limit_bytes": limits.layer_bytes,
        "limit_entries": limits.layer_entries,
        "trailing_bytes": limits.trailing_bytes,
    }
    source_fd = os.open(blob_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        async with running_worker(_PROGRAM, order, stdin=source_fd) as worker:
            done: UnpackResult = await worker.result()
    finally:
        os.close(source_fd)
    await slow.run(_mark_opaque, directory, done["opaque"])
    return Unpacked(diff_id or Digest(done["diff_id"]), done["size"])


async def ingest(
    stream: AsyncIterator[bytes], keep_path: str, directory: str, limits: Limits, slow: SlowWork, *, as_it_came: bool = False
) -> Ingested:
    """Unpack the layer that `stream` brings into the empty `directory` and keep it in the new file `keep_path`.

    A blob whose compression the registry formats have no name for is kept decompressed, unless it is wanted `as_it_came`.

    Raises `InvalidArchive` or `System`, and whatever `stream` raises.
    """
    keep_fd = os.open(keep_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        order: IngestOrder = {
            "job": "ingest",
            "parent_pid": os.getpid(),
            "root": directory,
            "keep_fd": keep_fd,
            "as_it_came": as_it_came,
            "limit_bytes": limits.layer_bytes,
            "limit_entries": limits.layer_entries,
            "trailing_bytes": limits.trailing_bytes,
        }
        async with (
            running_worker(_PROGRAM, order, stdin=asyncio.subprocess.PIPE, pass_fds=(keep_fd,)) as worker,
            feeding(worker, stream) as feed,
        ):
            done: IngestResult = await worker.result()
            await feed.finish()
    finally:
        os.close(keep_fd)
    await slow.run(_mark_opaque, directory, done["opaque"])
    unpacked = Unpacked(Digest(done["diff_id"]), done["size"])
    return Ingested(unpacked, Digest(done["digest"]), done["blob_size"], done["compression"])


async def index_blob(blob_path: str, directory: str, limits: Limits, *, diff_id: Digest | None) -> Indexed:
    """Make the index over the layer in `blob_path`: `INDEX_FILE` in the empty `directory`.

    `diff_id` is given if the layer is uncompressed and its digest known: then the blob itself is what the index points into. Otherwise
    `ARCHIVE_FILE` beside the index has the uncompressed archive. Raises `InvalidArchive` or `System`.
    """
    source_fd = os.open(blob_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        async with (
            _index_job(directory, limits, archive=diff_id is None) as (order, fds),
            running_worker(_PROGRAM, order, stdin=source_fd, pass_fds=fds) as worker,
        ):
            return _indexed(await worker.result(), diff_id)
    finally:
        os.close(source_fd)


async def index_stream(
    stream: AsyncIterator[bytes], keep_path: str, directory: str, limits: Limits, *, as_it_came: bool = False
) -> Indexed:
    """As `index_blob` without a known digest, of the layer that `stream` brings; its blob is kept as by `ingest`, in the file `keep_path`.

    The blob of an uncompressed layer is the same file as its archive. Raises `InvalidArchive` or `System`, and whatever `stream` raises.
    """
    async with (
        _index_job(directory, limits, archive=True, keep_path=keep_path, as_it_came=as_it_came) as (order, fds),
        running_worker(_PROGRAM, order, stdin=asyncio.subprocess.PIPE, pass_fds=fds) as worker,
        feeding(worker, stream) as feed,
    ):
        done = _indexed(await worker.result(), None)
        await feed.finish()
    if not done.compression:
        await run_to_end(run_blocking(_be_one_file, os.path.join(directory, ARCHIVE_FILE), keep_path))
    return done


@asynccontextmanager
async def _index_job(
    directory: str, limits: Limits, *, archive: bool, keep_path: str | None = None, as_it_came: bool = False
) -> AsyncIterator[tuple[IndexOrder, tuple[int, ...]]]:
    """The order, and the descriptors of the new files that it names. The worker's root is an empty directory."""
    root = os.path.join(directory, "root")
    await run_to_end(run_blocking(os.mkdir, root, 0o700))
    with ExitStack() as stack:
        index_fd = stack.enter_context(_new_file(os.path.join(directory, INDEX_FILE)))
        archive_fd = stack.enter_context(_new_file(os.path.join(directory, ARCHIVE_FILE))) if archive else None
        keep_fd = stack.enter_context(_new_file(keep_path)) if keep_path is not None else None
        order: IndexOrder = {
            "job": "index",
            "parent_pid": os.getpid(),
            "root": root,
            "index_fd": index_fd,
            "archive_fd": archive_fd,
            "keep_fd": keep_fd,
            "as_it_came": as_it_came,
            "limit_bytes": limits.layer_bytes,
            "limit_entries": limits.layer_entries,
            "trailing_bytes": limits.trailing_bytes,
        }
        yield order, tuple(fd for fd in (index_fd, archive_fd, keep_fd) if fd is not None)
    await run_to_end(run_blocking(os.rmdir, root))


def _be_one_file(kept: str, other: str) -> None:
    os.unlink(other)
    os.link(kept, other)


def _indexed(done: IndexResult, diff_id: Digest | None) -> Indexed:
    unpacked = Unpacked(diff_id or Digest(done["diff_id"]), done["size"])
    digest = Digest(done["digest"]) if done["digest"] else None
    return Indexed(unpacked, done["unindexable"], done["archive_size"], digest, done["blob_size"], done["compression"])


@contextmanager
def new_layer_files(directory: str, *, indexed: bool) -> Iterator[tuple[int, int | None]]:
    """The empty files of a layer that is about to be written: its archive and, if it is to be `indexed`, its index. Blocks."""
    with ExitStack() as stack:
        archive_fd = stack.enter_context(_new_file(os.path.join(directory, ARCHIVE_FILE)))
        yield archive_fd, stack.enter_context(_new_file(os.path.join(directory, INDEX_FILE))) if indexed else None


@contextmanager
def _new_file(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


async def split(stream: AsyncIterator[bytes], directory: str, limits: Limits) -> AsyncGenerator[Member, None]:
    """Take the image archive that `stream` brings apart into files in the empty `directory`; each member as soon as it is whole.

    To be closed by whoever gives up the iteration: a worker is at work until then. No member may be believed before the iteration ends
    without an error. Raises `InvalidArchive` or `System`, and whatever `stream` raises.
    """
    order: SplitOrder = {
        "job": "split",
        "parent_pid": os.getpid(),
        "root": directory,
        "limit_bytes": limits.archive_bytes,
        "limit_entries": limits.archive_entries,
        "trailing_bytes": limits.trailing_bytes,
    }
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.PIPE) as worker, feeding(worker, stream) as feed:
        line: MemberLine | DoneLine
        while "member" in (line := await worker.line()):
            yield _member(line["member"], directory)
        await feed.finish()


def _member(member: FileMember | LinkMember, directory: str) -> Member:
    if member["type"] != "file":
        return Member(member["name"], member["type"], target=member["target"])
    return Member(
        member["name"],
        "file",
        path=os.path.join(directory, member["file"]),
        size_bytes=member["size"],
        digest=Digest(member["digest"]),
        compression=member["compression"],
        is_archive=member["archive"],
    )


def _mark_opaque(directory: str, paths: list[str]) -> None:
    """Mark directories of a layer that hide the lower layers' directories of the same name.

    Done by the engine since it takes CAP_SYS_ADMIN, which no unpacking worker has. The worker has ended, so nobody changes the layer any
    more. The worker got the paths from the kernel, so none goes through a symlink; the look-up stays inside the layer whatever they are.
    """
    if not paths:
        return
    root_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in paths:
            fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                # kernel: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"
                os.setxattr(fd, "trusted.overlay.opaque", b"y")
            finally:
                os.close(fd)
    finally:
        os.close(root_fd)
