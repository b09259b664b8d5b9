"""What a container has changed, as a layer: its upper directory becomes an archive, and the tree of that archive, in one pass.

A name that was removed becomes a `.wh.` entry, a directory that hides the image's one of that name is marked by `.wh..wh..opq`. The same
files give the same archive, whenever and however often they are read: names are sorted by their bytes, times are whole seconds, and no
time of reading and no inode number is told. Left out are sockets, and what the engine itself
has made for a start (`upper.is_own`), as they are by dockerd. What is mounted in the container is not in the upper directory; the place
that it is mounted at is.

Nothing but regular files and directories is opened, by descriptor and without following a symlink: a container that was not paused gives
a layer of a moment that never was, and no file of the host.

spec: OCI image-spec layer.md, "Representing Changes". docker: moby/go-archive, archive.go and archive_linux.go. Unlike Docker's, the layer
has all attributes that an image's file may have, ACLs and user attributes among them, and the holes of sparse files.
"""

from __future__ import annotations

import errno
import os
import stat

from teul.wire.erofs import Inode
from teul.wire.tar import BLOCK, CHARACTER, DIRECTORY, FIFO, LINK, REGULAR, SYMLINK, Entry
from teul.wire.tar_write import END, padding, render_header
from teul.workers.program.entries import FORBIDDEN_XATTRS, Refused
from teul.workers.program.hashed_file import HashedFile
from teul.workers.program.index import Indexer
from teul.workers.program.names import OPAQUE, WHITEOUT
from teul.workers.program.pack import FILE_FLAGS, REPLACED
from teul.workers.program.upper import DIRECTORY_FLAGS, differs, find_below, is_opaque, is_own, is_whiteout, open_below

_PIECE_BYTES = 1 << 20
_FLUSH_BYTES = 256 << 10
# Any file system's blocks are no larger, or whole numbers of these.
_PAGE_BYTES = 4096
# Go reads maps of up to 1 MiB (archive/tar, maxSpecialFileSize); a file of more pieces goes with its holes filled.
_MAX_SEGMENTS = 1 << 15
_SECOND_NS = 1_000_000_000
_TYPES = {stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHARACTER, stat.S_IFBLK: BLOCK, stat.S_IFIFO: FIFO}
# What image files may have (`attributes.accepted`); labels and signatures are of the host's own policy.
_KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_NO_XATTRS = frozenset({errno.ENODATA, errno.ENOTSUP, errno.EPERM})
# Of an overlay that renames directories in place, or copies up owners and modes alone: what is below, or the data, is elsewhere.
_ELSEWHERE = ("trusted.overlay.redirect", "trusted.overlay.metacopy")


class _Directory:
    """A directory on the way. `entry`: what stands for it in the archive, as long as that has not been written."""

    __slots__ = ("entry", "lower_fds", "names", "path", "upper_fd")

    def __init__(self, path: bytes, upper_fd: int, lower_fds: list[int], entry: Entry | None) -> None:
        self.path = path
        self.upper_fd = upper_fd
        self.lower_fds = lower_fds
        self.entry = entry
        self.names = iter(sorted(os.fsencode(name) for name in os.listdir(upper_fd)))

    def close(self) -> None:
        for fd in (self.upper_fd, *self.lower_fds):
            os.close(fd)


class ChangesetWriter:
    """Writes one layer to `archive`. Used once: `run`, then its tree and its counters are read."""

    def __init__(self, archive: HashedFile) -> None:
        self._archive = archive
        self._buffer = bytearray()
        self._links: dict[tuple[int, int], bytes] = {}
        self._stack: list[_Directory] = []
        self._indexer = Indexer(lambda: self._archive.size_bytes + len(self._buffer))

    @property
    def root(self) -> Inode:
        """The layer's tree, for an index over the archive."""
        return self._indexer.root

    @property
    def entries(self) -> int:
        """How many there are in the archive; none if the container has changed nothing."""
        return self._indexer.entries

    @property
    def size_bytes(self) -> int:
        """As Docker counts a layer."""
        return self._indexer.size_bytes

    def run(self, upper_fd: int, lower_fds: list[int]) -> None:
        """Write the layer; `lower_fds` has the topmost directory first. Closes the descriptors. Raises `Refused`, `OSError`."""
        # Not recursive: a container may nest directories deeper than Python's stack. The root itself is not told of.
        self._stack.append(_Directory(b"", upper_fd, lower_fds, None))
        try:
            while self._stack:
                current = self._stack[-1]
                base = next(current.names, None)
                if base is None:
                    self._stack.pop().close()
                    continue
                try:
                    self._look_at(current, base)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # removed, or replaced, a moment ago
        finally:
            while self._stack:
                self._stack.pop().close()
        self._write(END)
        self._flush()

    def _look_at(self, current: _Directory, base: bytes) -> None:
        """Write what has become of the name `base`; a directory is entered."""
        path = current.path + b"/" + base
        status = os.stat(base, dir_fd=current.upper_fd, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if is_whiteout(status):
            if find_below(current.lower_fds, base) is not None:
                self._mark(current.path, WHITEOUT + base)
            return
        if base.startswith(WHITEOUT):
            raise Refused(f'"{os.fsdecode(path)}" cannot be in a layer: its name there means that another file was removed')
        own = is_own(path, status)
        before = find_below(current.lower_fds, base) if own else None
        if kind == stat.S_IFDIR:
            waits = own and (before is None or not differs(before, status))
            self._enter(current, base, path, waits=waits)
        elif own and before is None:
            return
        elif kind == stat.S_IFREG:
            self._file(current, base, path)
        elif kind != stat.S_IFSOCK:
            self._special(current, base, path, status, kind)

    def _enter(self, current: _Directory, base: bytes, path: bytes, *, waits: bool) -> None:
        """Write a directory, and go on in it. If it `waits`, it is written with the first of what is in it, or not at all."""
        upper_fd = os.open(base, DIRECTORY_FLAGS, dir_fd=current.upper_fd)
        lower_fds: list[int] = []
        try:
            lower_fds += open_below(current.lower_fds, base)
            entry = _describe(os.fstat(upper_fd), DIRECTORY, path)
            entry.xattrs = _attributes(upper_fd, path)
            directory = _Directory(path, upper_fd, lower_fds, entry)
        except BaseException:
            for fd in (upper_fd, *lower_fds):
                os.close(fd)
            raise
        self._stack.append(directory)
        # kernel: a new directory is marked as well, where there is nothing that it could hide.
        hides = bool(lower_fds) and is_opaque(upper_fd)
        if hides or not waits:
            self._write_directories()
        if hides:
            self._mark(path, OPAQUE)

    def _file(self, current: _Directory, base: bytes, path: bytes) -> None:
        try:
            fd = os.open(base, FILE_FLAGS, dir_fd=current.upper_fd)
        except OSError as error:
            if error.errno in REPLACED:
                return
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return
            entry = _describe(status, REGULAR, path)
            entry.xattrs = _attributes(fd, path)
            if self._is_link(entry, status):
                self._add(entry)
                return
            entry.size_bytes = status.st_size
            entry.segments = _segments(fd, status)
            self._add(entry)
            for offset, length in entry.segments if entry.segments is not None else [(0, status.st_size)]:
                self._data(fd, offset, length)
            # Segments but the last are whole blocks.
            self._write(padding(status.st_size if entry.segments is None else sum(length for _, length in entry.segments)))
        finally:
            os.close(fd)

    def _special(self, current: _Directory, base: bytes, path: bytes, status: os.stat_result, kind: int) -> None:
        entry = _describe(status, _TYPES[kind], path)
        if kind == stat.S_IFLNK:
            entry.link = os.readlink(base, dir_fd=current.upper_fd)
        else:
            os.fchdir(current.upper_fd)
            entry.xattrs = _attributes(base, path)
            if kind != stat.S_IFIFO:
                entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        self._is_link(entry, status)
        self._add(entry)

    def _is_link(self, entry: Entry, status: os.stat_result) -> bool:
        """Whether the file is in the archive by another name; then the entry has become a link to that."""
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), entry.name)
            if first != entry.name:
                entry.type, entry.link = LINK, first
                return True
        return False

    def _mark(self, directory: bytes, base: bytes) -> None:
        """An entry that stands for no file."""
        self._add(Entry(REGULAR, (directory + b"/" + base)[1:], mode=0o600))

    def _add(self, entry: Entry) -> None:
        self._write_directories()
        self._write_entry(entry)

    def _write_directories(self) -> None:
        """What is on the way to the current directory, itself included, and is not written yet."""
        for directory in self._stack:
            if directory.entry is not None:
                self._write_entry(directory.entry)
                directory.entry = None

    def _write_entry(self, entry: Entry) -> None:
        self._write(render_header(entry))
        self._indexer.add(entry)

    def _data(self, fd: int, offset: int, length: int) -> None:
        """Write as many bytes as the header says: what a growing file gains is left out, what a shrinking one loses is zeros."""
        at, end = offset, offset + length
        while at < end:
            piece = os.pread(fd, min(end - at, _PIECE_BYTES), at) or bytes(min(end - at, _PIECE_BYTES))
            self._write(piece)
            at += len(piece)

    def _write(self, data: bytes) -> None:
        if len(data) >= _FLUSH_BYTES:
            self._flush()
            self._archive.write(data)
            return
        self._buffer += data
        if len(self._buffer) >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._archive.write(bytes(self._buffer))
        self._buffer.clear()


def _describe(status: os.stat_result, kind: bytes, path: bytes) -> Entry:
    entry = Entry(kind, path[1:], mode=stat.S_IMODE(status.st_mode), uid=status.st_uid, gid=status.st_gid)
    entry.mtime_ns = status.st_mtime_ns // _SECOND_NS * _SECOND_NS
    return entry


def _segments(fd: int, status: os.stat_result) -> list[tuple[int, int]] | None:
    """Where the file has data, in whole pages but for its end; None if it has no hole to speak of, or too many."""
    size_bytes = status.st_size
    if status.st_blocks * 512 + _PAGE_BYTES > size_bytes:
        return None
    found: list[tuple[int, int]] = []
    at = 0
    while at < size_bytes:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # there is nothing but a hole up to the end
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        begin = begin // _PAGE_BYTES * _PAGE_BYTES
        at = min(-(-end // _PAGE_BYTES) * _PAGE_BYTES, size_bytes)
        if found and begin <= sum(found[-1]):
            found[-1] = (found[-1][0], at - found[-1][0])
        else:
            found.append((begin, at - begin))
        if len(found) > _MAX_SEGMENTS:
            return None
    if found == [(0, size_bytes)]:
        return None
    # The format's way to say that the file ends with a hole.
    return found if found and sum(found[-1]) == size_bytes else [*found, (size_bytes, 0)]


def _attributes(target: int | bytes, path: bytes) -> dict[bytes, bytes] | None:
    """The attributes of a descriptor, or of a name in the current directory, that go into the layer. Raises `OSError`."""
    try:
        names = os.listxattr(target) if isinstance(target, int) else os.listxattr(target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return None
        raise
    found: dict[bytes, bytes] = {}
    for name in names:
        if name in _ELSEWHERE:
            # kernel: with redirect_dir or metacopy, which a host may have set for all overlays (/sys/module/overlay/parameters).
            text = f"{os.fsdecode(path)}: the overlay keeps it by {name}, which cannot be read by itself"
            raise OSError(errno.EOPNOTSUPP, text)
        raw = os.fsencode(name)
        if not name.startswith(_KEPT_XATTRS) or raw.startswith(FORBIDDEN_XATTRS):
            continue
        try:
            found[raw] = os.getxattr(target, name) if isinstance(target, int) else os.getxattr(target, name, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                raise
    return found or None
