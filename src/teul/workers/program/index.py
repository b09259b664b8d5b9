"""The tree of a layer's archive, for the index that is mounted over it: what `extract` makes of the archive, without making it.

Nothing is written but the data that the archive has in a way that cannot be pointed at (`SideArea`). What is refused, and what becomes of
names that come twice, of whiteouts and of symlinks on the way, is as in `extract`, whose directories and these indexes stand in for
each other. One thing differs because it must: a directory that the archive does not mention has the time of the first entry in it, so
that one archive always has the same index.

spec: OCI image-spec layer.md. kernel: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from teul.wire.erofs import ARCHIVE_DEVICE, BLOCK_BYTES, HEAD_BYTES, INDEX_DEVICE, MAX_NAME_BYTES, Extent, Inode
from teul.wire.tar import BLOCK, CHARACTER, DIRECTORY, FIFO, LINK, REGULAR, SYMLINK, Entry, TarReader
from teul.workers.program.attributes import ACCESS_ACL, accepted, under_mode
from teul.workers.program.entries import Refused, bounded_time, check_device
from teul.workers.program.names import OPAQUE, WHITEOUT, WHITEOUT_METADATA, normalize
from teul.workers.program.streams import entries_within

_PATH_MAX = 4096  # kernel: linux/limits.h
_MAX_SYMLINKS = 40  # kernel: linux/namei.h, MAXSYMLINKS
_KIND_MASK = 0o170000  # linux/stat.h, S_IFMT
_KINDS = {REGULAR: stat.S_IFREG, SYMLINK: stat.S_IFLNK, CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}


class SideArea:
    """Data behind the head of the index's own file `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.end_block = HEAD_BYTES // BLOCK_BYTES

    def write(self, reader: TarReader, segments: list[tuple[int, int]], size_bytes: int) -> list[Extent]:
        """Store the segments of the entry at which `reader` stands; returns where they are. Raises `OSError`."""
        extents: list[Extent] = []
        for offset, length in segments:
            if not length:
                continue
            first = offset // BLOCK_BYTES * BLOCK_BYTES
            if not extents or first > extents[-1].offset + extents[-1].length:
                extents.append(Extent(first, 0, INDEX_DEVICE, self.end_block))
            extent = extents[-1]
            at = extent.block * BLOCK_BYTES + offset - extent.offset
            for piece in reader.data(length):
                at += write_at(self._fd, piece, at)
            end = offset + length
            self.end_block = extent.block + -(-(end - extent.offset) // BLOCK_BYTES)
            extent.length = min((self.end_block - extent.block) * BLOCK_BYTES, size_bytes - extent.offset)
        return extents


class Indexer:
    """Makes the tree of one layer. Used once: `run`, or `add` for one entry after the other; then its tree and its counters are read."""

    def __init__(self, position: Callable[[], int], reader: TarReader | None = None, side: SideArea | None = None) -> None:
        """`position` says how many bytes of the uncompressed archive come before the data of the entry that is added.

        Whoever writes the archive adds the entries, and no reader is needed: segments of sparse files are whole blocks then.
        """
        self._position = position
        self._reader = reader
        self._side = side
        self.root = Inode(stat.S_IFDIR | 0o755)
        # The directory of the last entry, or that entry: there the next one goes as a rule. Holds until a name is taken away.
        self._last_path = b""
        self._last_directory = self.root
        self.entries = 0
        # As Docker counts a layer: bytes of its files and symlinks, a file with several names once.
        self.size_bytes = 0

    def run(self, *, limit_bytes: int, limit_entries: int) -> None:
        """Add what the reader reads. Raises `TarError`, `StreamError`, `Refused` or `OSError`."""
        assert self._reader is not None
        for entry in entries_within(self._reader, limit_bytes=limit_bytes, limit_entries=limit_entries):
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Add the archive's next entry. Raises `Refused` or `OSError`."""
        self.entries += 1
        try:
            self._add(entry)
        except OSError as error:
            name = os.fsdecode(entry.name)
            raise OSError(error.errno, f"{name}: {os.strerror(error.errno or 0)}") from error

    def _add(self, entry: Entry) -> None:
        path = normalize(entry.name)
        if not path:
            if entry.type == DIRECTORY:
                _set_metadata(self.root, entry)
            return
        above, _, base = path.rpartition(b"/")
        if WHITEOUT in path:
            if WHITEOUT_METADATA in above:
                return  # aufs kept records of its own under such names
            if base.startswith(WHITEOUT):
                self._whiteout(above, base, entry)
                return
        _check_name(base)
        directory = self._last_directory if above == self._last_path else self._directory(above, entry)
        self._last_path, self._last_directory = above, directory
        if entry.type == DIRECTORY:
            self._add_directory(directory, base, path, entry)
        elif entry.type == LINK:
            self._add_link(directory, base, path, entry)
        else:
            self._add_file(directory, base, path, entry)

    def _add_directory(self, above: Inode, base: bytes, path: bytes, entry: Entry) -> None:
        names = _names(above)
        there = names.get(base)
        if there is not None and there.children is None:
            there = self._replace_by_directory(above, base)
        else:
            if there is None:
                there = names[base] = Inode(stat.S_IFDIR)
            self._last_path, self._last_directory = path, there
        _set_metadata(there, entry)

    def _add_file(self, above: Inode, base: bytes, path: bytes, entry: Entry) -> None:
        inode = Inode(_KINDS[entry.type])
        if entry.type == REGULAR:
            inode.size_bytes = entry.size_bytes
            inode.extents = self._extents(entry)
        elif entry.type == SYMLINK:
            if not entry.link:
                raise Refused(f'invalid symlink "{os.fsdecode(path)}" -> ""')
            if len(entry.link) >= _PATH_MAX:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            inode.target = entry.link
        elif entry.type in (CHARACTER, BLOCK):
            if entry.type == CHARACTER and not entry.major and not entry.minor:
                # security: to overlayfs such a device is a whiteout; in an archive a whiteout is a .wh. name.
                raise Refused(f'invalid device "{os.fsdecode(path)}": character device 0:0')
            check_device(entry, path)
            inode.device = (entry.major, entry.minor)
        _set_metadata(inode, entry)
        names = _names(above)
        if base in names:
            self._clear(above, base)
        names[base] = inode
        self.size_bytes += inode.size_bytes + len(inode.target)

    def _add_link(self, above: Inode, base: bytes, path: bytes, entry: Entry) -> None:
        text = f'invalid hardlink "{os.fsdecode(path)}" -> "{os.fsdecode(entry.link)}"'
        target = normalize(entry.link)
        if not target:
            raise Refused(text)
        inode = self._linked(target, text)
        if _names(above).get(base) is not inode:
            self._clear(above, base)
            inode = self._linked(target, text)  # which may have gone with what had its name
            inode.links += 1
            _names(above)[base] = inode
        # docker: what a link's entry says of the file holds.
        _set_metadata(inode, entry)

    def _linked(self, target: bytes, text: str) -> Inode:
        target_above, _, target_base = target.rpartition(b"/")
        try:
            inode = _names(self._directory(target_above, None))[target_base]
        except (FileNotFoundError, NotADirectoryError, KeyError):
            raise Refused(f"{text}: the layer has no such file") from None
        if inode.children is not None:
            raise Refused(f"{text}: not a file")
        if _is_whiteout(inode):
            raise Refused(f"{text}: the layer has no such file")
        return inode

    def _whiteout(self, above: bytes, base: bytes, entry: Entry) -> None:
        if base == OPAQUE:
            _mark_opaque(self._directory(above, entry))
            return
        if base.startswith(WHITEOUT_METADATA):
            return
        hidden = base[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise Refused(f'invalid whiteout "{os.fsdecode(base)}"')
        _check_name(hidden)
        names = _names(self._directory(above, entry))
        there = names.get(hidden)
        if there is None:
            names[hidden] = Inode(stat.S_IFCHR)
        elif there.children is not None:
            # spec: a whiteout hides files of lower layers, not of its own layer. A file of this layer hides the lower ones by being there.
            _mark_opaque(there)

    def _clear(self, above: Inode, base: bytes) -> None:
        """Make room for an entry whose name is taken: in a tar archive the later of two entries wins."""
        removed = _names(above).pop(base, None)
        if removed is None:
            return
        # The path may have led through it.
        self._last_path, self._last_directory = b"", self.root
        pending = [removed]
        while pending:
            inode = pending.pop()
            pending.extend((inode.children or {}).values())
            inode.links -= 1
            if not inode.links and inode.children is None:
                self.size_bytes -= inode.size_bytes + len(inode.target)

    def _replace_by_directory(self, above: Inode, base: bytes) -> Inode:
        was_hidden = _is_whiteout(_names(above)[base])
        self._clear(above, base)
        directory = _names(above)[base] = Inode(stat.S_IFDIR | 0o755)
        # The whiteout said that nothing of the lower directory remains; a plain directory would be merged with it.
        if was_hidden:
            _mark_opaque(directory)
        return directory

    def _directory(self, path: bytes, entry: Entry | None) -> Inode:
        """The directory `path`, through the layer's own symlinks. For an `entry`, missing ones are made as Docker makes them.

        Raises `Refused`, FileNotFoundError, NotADirectoryError.
        """
        stack = [self.root]
        pending = [(part, False) for part in reversed(path.split(b"/"))] if path else []
        followed = 0
        while pending:
            part, is_linked = pending.pop()  # linked: a symlink says so, not the archive's name
            if part in (b"", b"."):
                continue
            if part == b"..":
                if len(stack) == 1:
                    raise _out_of_layer(path)
                stack.pop()
                continue
            there = _names(stack[-1]).get(part)
            if there is not None and there.target:
                followed += 1
                if followed > _MAX_SYMLINKS or there.target.startswith(b"/"):
                    raise _out_of_layer(path)
                pending.extend((part, True) for part in reversed(there.target.split(b"/")))
            elif there is not None and there.children is not None:
                stack.append(there)
            elif there is not None and (entry is None or is_linked or not _is_whiteout(there)):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            elif entry is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            elif is_linked:
                raise _out_of_layer(path)
            else:
                stack.append(self._make_directory(stack[-1], part, entry))
        return stack[-1]

    def _make_directory(self, above: Inode, base: bytes, entry: Entry) -> Inode:
        if base in _names(above):
            directory = self._replace_by_directory(above, base)
        else:
            _check_name(base)
            directory = _names(above)[base] = Inode(stat.S_IFDIR | 0o755)
        directory.mtime_ns = bounded_time(entry.mtime_ns)
        return directory

    def _extents(self, entry: Entry) -> list[Extent]:
        """Where the data of the file is at which the reader stands."""
        at = self._position()
        if entry.segments is None:
            return [Extent(0, entry.size_bytes, ARCHIVE_DEVICE, at // BLOCK_BYTES)] if entry.size_bytes else []
        extents = []
        for offset, length in entry.segments:
            if not length:
                continue
            ends_inside = (offset + length) % BLOCK_BYTES and offset + length != entry.size_bytes
            if offset % BLOCK_BYTES or at % BLOCK_BYTES or ends_inside:
                assert self._side is not None
                assert self._reader is not None
                return self._side.write(self._reader, entry.segments, entry.size_bytes)
            extents.append(Extent(offset, length, ARCHIVE_DEVICE, at // BLOCK_BYTES))
            at += length
        return extents


def _names(directory: Inode) -> dict[bytes, Inode]:
    assert directory.children is not None, "only directories are asked"
    return directory.children


def _is_whiteout(inode: Inode) -> bool:
    """The archive itself has no such device: it would be refused."""
    return stat.S_ISCHR(inode.mode) and inode.device == (0, 0)


def _check_name(base: bytes) -> None:
    if len(base) > MAX_NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def _out_of_layer(path: bytes) -> Refused:
    return Refused(f'invalid path: "{os.fsdecode(path)}" is a symlink out of the layer')


def _mark_opaque(directory: Inode) -> None:
    directory.xattrs = {**(directory.xattrs or {}), b"trusted.overlay.opaque": b"y"}


def _set_metadata(inode: Inode, entry: Entry) -> None:
    kind = inode.mode & _KIND_MASK
    inode.mode = kind | (0o777 if kind == stat.S_IFLNK else entry.mode & 0o7777)
    inode.uid = entry.uid
    inode.gid = entry.gid
    inode.mtime_ns = bounded_time(entry.mtime_ns)
    if entry.xattrs:
        inode.xattrs = {**(inode.xattrs or {}), **accepted(entry.xattrs, kind)}
    if inode.xattrs and (acl := inode.xattrs.pop(ACCESS_ACL, None)) is not None and (acl := under_mode(acl, inode.mode)) is not None:
        inode.xattrs[ACCESS_ACL] = acl


def write_at(fd: int, data: bytes | memoryview, at: int) -> int:
    """Write every byte of `data` from `at` on; returns how many those are. Raises `OSError`."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, at)
        at += written
        rest = rest[written:]
    return len(data)
