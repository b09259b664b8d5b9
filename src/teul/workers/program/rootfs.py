"""The program that works on the files of one container: look at a path, pack it, place an archive, export everything, list changes, make
a layer of them, and copy what a volume gets of the files.

The order is one JSON argument; an archive comes on descriptor 0 or leaves on the descriptor `data_fd`; descriptor 1 takes the report
(`messages`). Of a job that reads or writes an archive, its first line says that the container's root has been entered.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING

from teul.linux.paths import open_in_root
from teul.linux.users import UserError, resolve
from teul.wire.tar import TarError, TarReader
from teul.workers.program.entries import Refused
from teul.workers.program.pack import Packer
from teul.workers.program.place import Placer
from teul.workers.program.populate import Copier
from teul.workers.program.report import SOURCE_FD, Rule, finish, report
from teul.workers.program.resolve import PathError, absolute, base_name, describe
from teul.workers.program.streams import ChunkSource, StreamError, read_chunks, sniffed
from teul.workers.program.view import ContainerGone, enter

if TYPE_CHECKING:
    from teul.workers.program.messages import (
        BindMount,
        ExportOrder,
        InsideOrder,
        Nothing,
        PackOrder,
        PlaceOrder,
        PopulateOrder,
        PopulateResult,
        Result,
        RootfsOrder,
        Stat,
        StatOrder,
    )

_READING = ("CAP_DAC_READ_SEARCH",)
_WRITING = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP")


class _NotThere(Exception):
    """The path that the client named does not exist."""


class _Invalid(Exception):
    """The client asks for something that cannot be done."""


_RULES = (
    Rule("gone", ContainerGone),
    Rule("not-found", _NotThere),
    Rule("invalid", _Invalid, UserError),
    # The texts are dockerd's. It calls a malformed archive a failure of its own, status 500, which would be an alarm without cause.
    Rule("invalid", TarError, StreamError, Refused),
    Rule("system", OSError, MemoryError),
)


def main(order_text: str) -> None:
    """Carry out the order and end the process."""
    order: RootfsOrder = json.loads(order_text)
    finish(lambda: _carry_out(order), _RULES)


def _carry_out(order: RootfsOrder) -> Result:
    match order["job"]:
        case "stat":
            return _stat(order)
        case "pack":
            return _pack(order)
        case "export":
            return _export(order)
        case "place":
            return _place(order)
        case "populate":
            return _populate(order)
        case "changes" | "changeset":
            # What most jobs have no use for is loaded by those that have: it takes longer than many a job. So in `_place`.
            from teul.workers.program import changed  # noqa: PLC0415

            return changed.tell_changes(order) if order["job"] == "changes" else changed.write_changeset(order)


def _stat(order: StatOrder) -> Stat:
    with _Root(order, _READING) as root_fd:
        return _describe(root_fd, absolute(order["path"]))


def _pack(order: PackOrder) -> Nothing:
    path = absolute(order["path"])
    with _Root(order, _READING) as root_fd:
        report({"stat": _describe(root_fd, path)})
        parent, base = os.path.split(path)
        packer = Packer(order["data_fd"])
        if path == "/" or base in ("", "."):
            packer.add_directory(_open(root_fd, path), os.fsencode(base_name(path)))
        else:
            parent_fd = _open(root_fd, parent)
            packer.add(parent_fd, os.fsencode(base), os.fsencode(base))
            os.close(parent_fd)
        packer.finish()
    return {}


def _export(order: ExportOrder) -> Nothing:
    with _Root(order, _READING) as root_fd:
        report({"entered": True})
        packer = Packer(order["data_fd"])
        packer.add_below(_open(root_fd, "/"), b"")
        packer.finish()
    return {}


def _place(order: PlaceOrder) -> Nothing:
    from teul.workers.program.decompression import decompressed  # noqa: PLC0415

    with _Root(order, _WRITING) as root_fd:
        report({"entered": True})
        destination = _destination(root_fd, order["path"])
        _check_writable(destination, order["view"]["binds"], read_only_root=order["read_only_root"])
        owner = None
        if order["user"]:
            user = resolve(root_fd, order["user"], [])
            owner = (user.uid, user.gid)
        source = ChunkSource(decompressed(*sniffed(read_chunks(SOURCE_FD))))
        Placer(TarReader(source), root_fd, destination, owner=owner, no_overwrite=order["no_overwrite"]).run()
        # The archive's padding is read too: a client that is cut off while it writes calls the copy failed.
        source.drain()
    return {}


def _populate(order: PopulateOrder) -> PopulateResult:
    # Opened while they can be reached by name: a volume's top belongs to nobody whose capabilities are kept.
    targets = [(path, os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount_fd)) for path, mount_fd in order["targets"]]
    result: PopulateResult = {"found": []}
    with _Root(order, (*_READING, *_WRITING)) as root_fd:
        for path, target_fd in targets:
            try:
                source_fd = _open(root_fd, absolute(path))
            except FileNotFoundError:
                result["found"].append("nothing")
                continue
            except NotADirectoryError:
                result["found"].append("file")
                continue
            Copier().copy(source_fd, target_fd)
            os.close(source_fd)
            result["found"].append("directory")
    return result


class _Root:
    """The container's root, entered; a descriptor of it."""

    def __init__(self, order: InsideOrder, capabilities: tuple[str, ...]) -> None:
        enter(order["view"], capabilities, order["parent_pid"], changing=capabilities != _READING)
        self._fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *details: object) -> None:
        os.close(self._fd)


def _describe(root_fd: int, path: str) -> Stat:
    try:
        return describe(root_fd, path)
    except PathError as error:
        if error.errno == errno.ENOENT:
            raise _NotThere(path) from error
        raise _judged(error) from error


def _judged(error: PathError) -> Exception:
    """`error` as it is, or as the client's who asked for a path that cannot be."""
    return _Invalid(error.strerror or str(error)) if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP) else error


def _open(root_fd: int, path: str) -> int:
    return open_in_root(root_fd, path, os.O_RDONLY | os.O_DIRECTORY)


def _destination(root_fd: int, path: str) -> bytes:
    """The real path of the directory that `path` leads to."""
    try:
        fd = open_in_root(root_fd, absolute(path), os.O_PATH)
    except FileNotFoundError as error:
        raise _NotThere(path) from error
    except OSError as error:
        raise _judged(PathError("lstat", path, error)) from error
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise _Invalid("extraction point is not a directory")
        os.fchdir(fd)
        return os.getcwdb()
    finally:
        os.close(fd)


def _check_writable(destination: bytes, binds: list[BindMount], *, read_only_root: bool) -> None:
    """Raises `_Invalid` if the client asked for `destination` to be read-only. docker: so says dockerd before the kernel is asked."""
    path = os.fsdecode(destination)
    for bind in binds:
        if bind["asked"] and (path == bind["destination"] or path.startswith(bind["destination"].rstrip("/") + "/")):
            if bind["read_only"]:
                raise _Invalid("mounted volume is marked read-only")
            return
    if read_only_root:
        raise _Invalid("container rootfs is marked read-only")
