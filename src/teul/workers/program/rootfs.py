"""The program that works on the files of one container: look at a path, pack it, place an archive, export everything, list changes.

The order is one JSON argument; an archive comes on descriptor 0 or leaves on the descriptor `data_fd`; the report (JSON lines) is
descriptor 1. Its first line says {"stat": …} or {"entered": true} when the container's root has been entered; its last is {"done": …} or
{"error": text, "kind": "not-found" | "invalid" | "gone" | "system" | "bug"}; a report without that means that the worker died.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from teul.linux.paths import open_in_root
from teul.linux.users import UserError, resolve
from teul.store.atomic import write_all
from teul.wire.tar import TarError, TarReader
from teul.workers.program.changes import list_changes
from teul.workers.program.confine import harden, keep_capabilities
from teul.workers.program.pack import Packer
from teul.workers.program.place import Placer, Refused
from teul.workers.program.resolve import PathError, absolute, base_name, describe
from teul.workers.program.streams import CHUNK_BYTES, ChunkSource, StreamError, decompressed, sniff
from teul.workers.program.view import ContainerGone, enter

_SOURCE_FD = 0
_REPORT_FD = 1
_READING = ("CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")
_WRITING = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP")


def main(order_text: str) -> None:
    """Carry out the order and end the process."""
    order = json.loads(order_text)
    try:
        report({"done": _JOBS[order["job"]](order)})
    except ContainerGone:
        _fail("gone", "the container has ended")
    except _NotThere as error:
        _fail("not-found", str(error))
    except (_Invalid, UserError) as error:
        _fail("invalid", str(error))
    except (TarError, StreamError, Refused) as error:
        # docker: what is wrong with the archive is the daemon's failure there, status 500.
        _fail("system", str(error))
    except OSError as error:
        _fail("system", str(error.args[-1]))
    except MemoryError:
        _fail("system", "the archive needs more memory than a worker may have")
    except Exception:  # noqa: BLE001 - boundary: the process ends here, the engine logs this
        _fail("bug", traceback.format_exc())
    os._exit(0)


def report(message: dict[str, Any]) -> None:
    """Tell the engine; waits while it does not read."""
    write_all(_REPORT_FD, json.dumps(message).encode() + b"\n")


def _fail(kind: str, text: str) -> None:
    report({"error": text, "kind": kind})


class _NotThere(Exception):
    """The path that the client named does not exist."""


class _Invalid(Exception):
    """The client asks for what cannot be."""


def _stat(order: dict[str, Any]) -> dict[str, Any]:
    with _Root(order, _READING) as root_fd:
        return _describe(root_fd, absolute(order["path"]))


def _pack(order: dict[str, Any]) -> dict[str, Any]:
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


def _export(order: dict[str, Any]) -> dict[str, Any]:
    with _Root(order, _READING) as root_fd:
        report({"entered": True})
        packer = Packer(order["data_fd"])
        packer.add_below(_open(root_fd, "/"), b"")
        packer.finish()
    return {}


def _place(order: dict[str, Any]) -> dict[str, Any]:
    with _Root(order, _WRITING) as root_fd:
        report({"entered": True})
        destination = _destination(root_fd, order["path"])
        _check_writable(destination, order["view"]["binds"], read_only_root=order["read_only_root"])
        owner = None
        if order["user"]:
            user = resolve(root_fd, order["user"], [])
            owner = (user.uid, user.gid)
        source = ChunkSource(_decompressed(_chunks()))
        Placer(TarReader(source), root_fd, destination, owner=owner, no_overwrite=order["no_overwrite"]).run()
        # A client that is cut off while it writes calls the copy failed.
        source.drain()
    return {}


def _changes(order: dict[str, Any]) -> dict[str, Any]:
    harden(order["parent_pid"])
    # CAP_SYS_ADMIN reads the overlay's marks; nothing is written here and no symlink followed.
    keep_capabilities((*_READING, "CAP_SYS_ADMIN"))
    found = list_changes(order["upper"], order["lower"])
    return {"changes": [[kind, os.fsdecode(path)] for kind, path in found]}


_JOBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "stat": _stat,
    "pack": _pack,
    "export": _export,
    "place": _place,
    "changes": _changes,
}


class _Root:
    """The container's root, entered; a descriptor of it."""

    def __init__(self, order: dict[str, Any], capabilities: tuple[str, ...]) -> None:
        enter(order["view"], capabilities, order["parent_pid"])
        self._fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *details: object) -> None:
        os.close(self._fd)


def _describe(root_fd: int, path: str) -> dict[str, Any]:
    try:
        return describe(root_fd, path)
    except PathError as error:
        if error.errno == errno.ENOENT:
            raise _NotThere(path) from error
        raise


def _open(root_fd: int, path: str) -> int:
    return open_in_root(root_fd, path, os.O_RDONLY | os.O_DIRECTORY)


def _destination(root_fd: int, path: str) -> bytes:
    """The directory that `path` leads to, by its real name."""
    try:
        fd = open_in_root(root_fd, absolute(path), os.O_PATH)
    except FileNotFoundError as error:
        raise _NotThere(path) from error
    except OSError as error:
        raise PathError("lstat", path, error) from error
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise _Invalid("extraction point is not a directory")
        os.fchdir(fd)
        return os.getcwdb()
    finally:
        os.close(fd)


def _check_writable(destination: bytes, binds: list[dict[str, Any]], *, read_only_root: bool) -> None:
    """docker: what was asked for is looked at, before the kernel is."""
    path = os.fsdecode(destination)
    for bind in binds:
        if bind["asked"] and (path == bind["destination"] or path.startswith(bind["destination"].rstrip("/") + "/")):
            if bind["read_only"]:
                raise _Invalid("mounted volume is marked read-only")
            return
    if read_only_root:
        raise _Invalid("container rootfs is marked read-only")


def _chunks() -> Iterator[bytes]:
    while chunk := os.read(_SOURCE_FD, CHUNK_BYTES):
        yield chunk


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    while len(head) < 6 and (chunk := next(chunks, b"")):
        head += chunk
    return decompressed(_prefixed(head, chunks), sniff(head))


def _prefixed(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks
