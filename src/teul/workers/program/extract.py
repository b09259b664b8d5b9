"""A layer's archive is unpacked into the current root directory, in the shape that overlayfs reads.

Whiteouts become character devices 0:0; opaque directories are reported, for the engine to mark. Runs inside `confine`: "/" is the layer's
own directory, so no name can lead out of it. A name that tries is refused all the same, since its archive means harm or is broken:
names with "..", symlinks that leave the layer used as directories, hard links to what is not there.

spec: OCI image-spec layer.md. kernel: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
docker: names that begin with a slash are taken as relative, since widely used builders write them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from teul.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, open_how
from teul.linux.syscalls import prototype
from teul.store.atomic import remove_tree
from teul.wire.tar import CHARACTER, DIRECTORY, LINK, REGULAR, SYMLINK, Entry, TarReader
from teul.workers.program.attributes import CAPABILITY, DEFAULT_ACL, accepted, capability_of
from teul.workers.program.entries import CREATE_FLAGS, Refused, bounded_time, bytes_below, counts, make_node, set_xattrs, write_data
from teul.workers.program.late import LateDirectories
from teul.workers.program.names import OPAQUE, WHITEOUT, WHITEOUT_METADATA, normalize
from teul.workers.program.streams import entries_within

_OPEN_DIRECTORIES = 256
# A program without its file capabilities would fail much later, and nobody would know why: better to refuse the layer.
_REQUIRED_XATTRS = frozenset({CAPABILITY})
_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_openat2 = prototype("openat2", ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(open_how), ctypes.c_size_t)


class Extractor:
    """Writes the entries of one layer below "/". An extractor is used once: `run`, then its counters are read."""

    def __init__(self, reader: TarReader, *, limit_bytes: int, limit_entries: int) -> None:
        self._reader = reader
        self._limit_bytes = limit_bytes
        self._limit_entries = limit_entries
        self._root_fd = os.open("/", _DIRECTORY_FLAGS)
        self._directories: dict[bytes, int] = {b"": self._root_fd}
        self._late = LateDirectories()
        self._whiteouts: set[bytes] = set()
        self._forgotten: list[int] = []  # descriptors that are to be closed when the entry has been written
        self._symlinked: set[bytes] = set()  # paths of directories that a symlink of the layer leads to
        self.entries = 0
        # As Docker counts a layer: bytes of its files and symlinks, a file with several names once.
        self.size_bytes = 0
        self.opaque: set[bytes] = set()

    def run(self) -> None:
        """Raises `TarError`, `StreamError`, `Refused` or `OSError`; the files written by then are to be thrown away."""
        for entry in entries_within(self._reader, limit_bytes=self._limit_bytes, limit_entries=self._limit_entries):
            self.entries += 1
            self._close_old_directories()
            try:
                self._extract(entry)
            except OSError as error:
                name = os.fsdecode(entry.name)
                raise OSError(error.errno, f"{name}: {os.strerror(error.errno or 0)}") from error
        self._late.finish(self._open_old_enough)

    def _extract(self, entry: Entry) -> None:
        path = normalize(entry.name)
        if not path:
            if entry.type == DIRECTORY:
                self._set_directory(b"", entry)
            return
        parent, _, base = path.rpartition(b"/")
        if WHITEOUT in path:
            if WHITEOUT_METADATA in parent:
                return  # aufs kept records of its own under such names
            if base.startswith(WHITEOUT):
                self._whiteout(parent, base)
                return
        parent_fd = self._directories.get(parent)
        if parent_fd is None:
            parent_fd = self._open_directory(parent)
        if self._symlinked:
            path = self._real_path(parent_fd, base)
        if entry.type == REGULAR:
            self._regular(parent_fd, base, path, entry)
        elif entry.type == DIRECTORY:
            self._directory(parent_fd, base, path, entry)
        else:
            self._special(parent_fd, base, path, entry)

    def _regular(self, parent_fd: int, base: bytes, path: bytes, entry: Entry) -> None:
        mode = entry.mode & 0o7777
        try:
            fd = os.open(base, CREATE_FLAGS, mode, dir_fd=parent_fd)
        except FileExistsError:
            self._clear(parent_fd, base, path)
            fd = os.open(base, CREATE_FLAGS, mode, dir_fd=parent_fd)
        try:
            write_data(self._reader, fd, entry)
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            if entry.xattrs is not None:
                set_xattrs(fd, accepted(entry.xattrs, stat.S_IFREG), required=_REQUIRED_XATTRS)
            # chown(2) takes the set-id bits away, and an access ACL has a mode in it.
            if mode & 0o6000 or entry.xattrs is not None:
                os.fchmod(fd, mode)
            time_ns = bounded_time(entry.mtime_ns)
            os.utime(fd, ns=(time_ns, time_ns))
        finally:
            os.close(fd)
        self.size_bytes += entry.size_bytes

    def _directory(self, parent_fd: int, base: bytes, path: bytes, entry: Entry) -> None:
        try:
            os.mkdir(base, entry.mode & 0o1777, dir_fd=parent_fd)
        except FileExistsError:
            status = os.stat(base, dir_fd=parent_fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                self._replace_by_directory(parent_fd, base, path)
            self._set_directory(path, entry)
            return
        if entry.uid or entry.gid or entry.mode & 0o6000 or entry.xattrs is not None:
            self._set_directory(path, entry)
        else:
            self._late.times[path] = entry.mtime_ns

    def _set_directory(self, path: bytes, entry: Entry) -> None:
        fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._open_directory(path))
        try:
            os.fchown(fd, entry.uid, entry.gid)
            if entry.xattrs is not None:
                xattrs = accepted(entry.xattrs, stat.S_IFDIR)
                if (acl := xattrs.pop(DEFAULT_ACL, None)) is not None:
                    self._late.default_acls[path] = acl
                set_xattrs(fd, xattrs, required=_REQUIRED_XATTRS)
            os.fchmod(fd, entry.mode & 0o5777)
        finally:
            os.close(fd)
        self._late.times[path] = entry.mtime_ns
        self._late.set_group_ids.pop(path, None)
        if entry.mode & 0o2000:
            self._late.set_group_ids[path] = entry.mode & 0o7777

    def _special(self, parent_fd: int, base: bytes, path: bytes, entry: Entry) -> None:
        try:
            self._make(parent_fd, base, path, entry)
        except FileExistsError:
            self._clear(parent_fd, base, path)
            self._make(parent_fd, base, path, entry)
        if entry.type == SYMLINK:
            self.size_bytes += len(entry.link)
        self._set_special(parent_fd, base, entry)

    def _set_special(self, parent_fd: int, base: bytes, entry: Entry) -> None:
        """Owner, mode, attributes and times. docker: those of a link's entry are set on the file that it is a name of."""
        linked = os.stat(base, dir_fd=parent_fd, follow_symlinks=False)
        xattrs = accepted(entry.xattrs, stat.S_IFMT(linked.st_mode)) if entry.xattrs is not None else {}
        if (entry.uid, entry.gid) != (linked.st_uid, linked.st_gid):
            if entry.type == LINK:
                # kernel: chown(2) takes the capabilities away, too, which a link's entry need not repeat.
                xattrs = {**capability_of(parent_fd, base), **xattrs}
            os.chown(base, entry.uid, entry.gid, dir_fd=parent_fd, follow_symlinks=False)
        if xattrs:
            os.fchdir(parent_fd)
            set_xattrs(base, xattrs, required=_REQUIRED_XATTRS)
        if not stat.S_ISLNK(linked.st_mode) and (entry.type == LINK or entry.mode & 0o6000 or xattrs):
            os.chmod(base, entry.mode & 0o7777, dir_fd=parent_fd)
        time_ns = bounded_time(entry.mtime_ns)
        os.utime(base, ns=(time_ns, time_ns), dir_fd=parent_fd, follow_symlinks=False)

    def _make(self, parent_fd: int, base: bytes, path: bytes, entry: Entry) -> None:
        if entry.type == SYMLINK:
            if not entry.link:
                raise Refused(f'invalid symlink "{os.fsdecode(path)}" -> ""')
            os.symlink(entry.link, base, dir_fd=parent_fd)
        elif entry.type == LINK:
            self._link(parent_fd, base, path, entry)
        elif entry.type == CHARACTER and not entry.major and not entry.minor:
            # security: to overlayfs such a device is a whiteout; in an archive a whiteout is a .wh. name.
            raise Refused(f'invalid device "{os.fsdecode(path)}": character device 0:0')
        else:
            make_node(parent_fd, base, entry, mode=entry.mode & 0o7777, name=path)

    def _link(self, parent_fd: int, base: bytes, path: bytes, entry: Entry) -> None:
        text = f'invalid hardlink "{os.fsdecode(path)}" -> "{os.fsdecode(entry.link)}"'
        target = normalize(entry.link)
        if not target:
            raise Refused(text)
        target_parent, _, target_base = target.rpartition(b"/")
        try:
            target_fd = self._open_directory(target_parent, create=False)
            linked = os.stat(target_base, dir_fd=target_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            raise Refused(f"{text}: the layer has no such file") from None
        if stat.S_ISDIR(linked.st_mode):
            raise Refused(f"{text}: not a file")
        if stat.S_ISCHR(linked.st_mode) and not linked.st_rdev:
            raise Refused(f"{text}: the layer has no such file")  # but a whiteout of that name
        try:
            os.link(target_base, base, src_dir_fd=target_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
        except FileExistsError:
            # It may be the file itself that has the name, which then must not be removed to make room.
            if os.stat(base, dir_fd=parent_fd, follow_symlinks=False).st_ino != linked.st_ino:
                raise

    def _whiteout(self, parent: bytes, base: bytes) -> None:
        if base == OPAQUE:
            self._mark_opaque(self._open_directory(parent))
            return
        if base.startswith(WHITEOUT_METADATA):
            return
        hidden = base[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise Refused(f'invalid whiteout "{os.fsdecode(base)}"')
        parent_fd = self._open_directory(parent)
        path = self._real_path(parent_fd, hidden) if self._symlinked else parent + b"/" + hidden if parent else hidden
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent_fd)
            self._whiteouts.add(path)
        except FileExistsError:
            # spec: a whiteout hides files of lower layers, not of its own layer. A file of this layer hides the lower ones by being there.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                self._mark_opaque(self._open_directory(path))

    @staticmethod
    def _real_path(parent_fd: int, base: bytes) -> bytes:
        """Without symlinks, so that a file is known by one path whichever it is given."""
        os.fchdir(parent_fd)
        return os.path.join(os.getcwdb(), base)[1:]

    def _mark_opaque(self, directory_fd: int) -> None:
        # The directory's path is asked of the kernel, since the archive's path may lead through symlinks.
        os.fchdir(directory_fd)
        self.opaque.add(os.getcwdb())

    def _clear(self, parent_fd: int, base: bytes, path: bytes) -> None:
        """Make room for an entry whose name is taken: in a tar archive the later of two entries wins."""
        status = os.stat(base, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self.size_bytes -= bytes_below(b"/" + path)
        elif status.st_nlink == 1 and counts(status):
            self.size_bytes -= status.st_size
        self._forget(path, directory=stat.S_ISDIR(status.st_mode))
        remove_tree(base, dir_fd=parent_fd)

    def _replace_by_directory(self, parent_fd: int, base: bytes, path: bytes) -> None:
        was_hidden = path in self._whiteouts
        self._clear(parent_fd, base, path)
        os.mkdir(base, 0o755, dir_fd=parent_fd)
        # The whiteout said that nothing of the lower directory remains; a plain directory would be merged with it.
        if was_hidden:
            self._mark_opaque(self._open_directory(path))

    def _open_directory(self, path: bytes, *, create: bool = True) -> int:
        """A descriptor of directory `path`, owned by the cache. Missing parents are made as Docker makes them: owned by root, mode 0755."""
        fd = self._directories.get(path)
        if fd is not None:
            return fd
        parent, _, base = path.rpartition(b"/")
        parts = [base]
        while parent not in self._directories:
            parent, _, base = parent.rpartition(b"/")
            parts.append(base)
        fd = self._directories[parent]
        for part in reversed(parts):
            parent = parent + b"/" + part if parent else part
            fd = self._step(fd, part, parent, create=create)
            self._directories[parent] = fd
        return fd

    def _step(self, parent_fd: int, base: bytes, path: bytes, *, create: bool) -> int:
        try:
            return os.open(base, _DIRECTORY_FLAGS, dir_fd=parent_fd)
        except FileNotFoundError:
            if not create:
                raise
            os.mkdir(base, 0o755, dir_fd=parent_fd)
            return os.open(base, _DIRECTORY_FLAGS, dir_fd=parent_fd)
        except NotADirectoryError:
            if create and path in self._whiteouts:
                self._replace_by_directory(parent_fd, base, path)
                return os.open(base, _DIRECTORY_FLAGS, dir_fd=parent_fd)
            return self._through_symlink(path)

    def _through_symlink(self, path: bytes) -> int:
        """A directory that the layer reaches by a relative symlink of its own (`bin -> usr/bin`). No other symlink is followed."""
        how = open_how(os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
        self._symlinked.add(path)
        try:
            return _openat2(self._root_fd, path, ctypes.byref(how), ctypes.sizeof(how), path=path)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.ELOOP, errno.ENOENT):
                raise Refused(f'invalid path: "{os.fsdecode(path)}" is a symlink out of the layer') from error
            raise

    def _open_old_enough(self, path: bytes) -> int:
        """As `_open_directory`, between entries."""
        self._close_old_directories()
        return self._open_directory(path)

    def _close_old_directories(self) -> None:
        """Keep the cache of directories small. Called between entries: an entry's descriptors must stay open until it is written."""
        while self._forgotten:
            os.close(self._forgotten.pop())
        if len(self._directories) > _OPEN_DIRECTORIES:
            # The oldest descriptors are closed; the root's is the first in the dictionary and stays.
            for old in list(self._directories)[1 : -_OPEN_DIRECTORIES // 2]:
                os.close(self._directories.pop(old))

    def _forget(self, path: bytes, *, directory: bool) -> None:
        """Before `path` is removed: let go of the descriptors of directories at and below it, and drop what was to be done to them."""
        below = path + b"/"
        removed = {old for old in self._directories if old == path or old.startswith(below)}
        if directory and self._symlinked:
            through = tuple(link + b"/" for link in self._symlinked)
            for old in [old for old in self._directories if old in self._symlinked or old.startswith(through)]:
                real = self._real_path(self._directories[old], b"")[:-1]
                if real == path or real.startswith(below):
                    removed.add(old)
        # The entry may be on its way through one of them: to `dir/up/dir`, where `up` leads to the top, and a file replaces `dir`.
        self._forgotten += [self._directories.pop(old) for old in removed]
        self._whiteouts.discard(path)
        if directory:
            self._late.forget(path)
            self.opaque = {old for old in self.opaque if old != b"/" + path and not old.startswith(b"/" + below)}
