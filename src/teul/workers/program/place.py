"""A client's archive is placed in a directory of a container: `docker cp` into the container.

Runs inside `view.enter`. The archive is not trusted: a name is followed inside the container's root (openat2, so symlinks cannot lead
out even if they are being changed), a ".." that would leave the destination is refused, and an entry replaces a file of the same name
instead of being written through it. A container that changes its files meanwhile gets what it made of them; the host is not reached.

docker: moby/go-archive, Unpack. Unlike an image's layer, such an archive has no whiteouts: a name that begins with .wh. is a name.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from teul.linux.paths import make_directories_in_root, open_in_root
from teul.store.atomic import remove_tree
from teul.wire.tar import DIRECTORY, LINK, REGULAR, SYMLINK, Entry, TarReader
from teul.workers.program.entries import CREATE_FLAGS, Refused, bounded_time, make_node, set_xattrs, write_data

# kernel: with O_NONBLOCK the open of a FIFO that was put in a file's place does not wait for a writer.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# What the kernel says of an entry that cannot be where it is to be, as it is; what else it says is about the machine.
_OF_THE_ARCHIVE = frozenset(
    (
        *(errno.E2BIG, errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EMLINK, errno.ENAMETOOLONG),
        *(errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EOVERFLOW, errno.EPERM, errno.ERANGE, errno.EXDEV),
    )
)


class Placer:
    """Places the entries of one archive into the directory `destination`, a path that has no symlinks. A placer is used once: `run`.

    `whole`: the destination itself becomes as the archive says, too, and times from before 1970 are kept.
    """

    def __init__(
        self,
        reader: TarReader,
        root_fd: int,
        destination: bytes,
        *,
        owner: tuple[int, int] | None,
        no_overwrite: bool,
        whole: bool = False,
    ) -> None:
        self._whole = whole
        self._reader = reader
        self._root_fd = root_fd
        self._destination = destination.rstrip(b"/")
        self._owner = owner
        self._no_overwrite = no_overwrite
        self._directory_times: dict[bytes, int] = {}
        # The directory that the last entries went into. What follows goes there, too, as long as nothing of the archive's has changed what
        # its name leads to; what a container has changed meanwhile, it could have changed a moment later.
        self._parent = b""
        self._parent_fd = -1

    def run(self) -> None:
        """Raises `TarError`, `StreamError`, `Refused` or `OSError`; the entries placed by then stay, as with docker."""
        try:
            self._place_all()
        finally:
            self._forget_parent()
        # Directories get their times at the end: an entry made in a directory changes the directory's time.
        for name, time_ns in self._directory_times.items():
            self._set_directory_time(name, time_ns)

    def _place_all(self) -> None:
        while (entry := self._reader.next()) is not None:
            name = _clean(entry.name)
            if name == b"." and not (self._whole and entry.type == DIRECTORY):
                continue
            try:
                if name == b".":
                    self._top(entry)
                else:
                    self._place(name, entry)
            except OSError as error:
                text = f"{os.fsdecode(entry.name)}: {os.strerror(error.errno or 0).lower()}"
                raise Refused(text) if error.errno in _OF_THE_ARCHIVE else OSError(error.errno, text) from error

    def _top(self, entry: Entry) -> None:
        fd = open_in_root(self._root_fd, self._path(b""), os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._give(fd, entry)
            os.fchmod(fd, entry.mode & 0o7777)
            set_xattrs(fd, entry.xattrs or {})
        finally:
            os.close(fd)
        self._directory_times[b""] = self._time(entry)

    def _place(self, name: bytes, entry: Entry) -> None:
        parent, _, base = name.rpartition(b"/")
        if self._parent_fd >= 0 and parent == self._parent:
            try:
                self._place_in(self._parent_fd, base, name, entry)
            except FileNotFoundError:
                pass  # the container has removed the directory meanwhile: it is made again
            else:
                return
        self._forget_parent()
        # docker: directories that are missing on the way are made, owned by root, mode 0755.
        self._parent, self._parent_fd = parent, make_directories_in_root(self._root_fd, self._path(parent))
        self._place_in(self._parent_fd, base, name, entry)

    def _place_in(self, parent_fd: int, base: bytes, name: bytes, entry: Entry) -> None:
        if entry.type == REGULAR:
            self._regular(parent_fd, base, name, entry)
            return
        merged = self._make_room(parent_fd, base, name, entry)
        if entry.type == DIRECTORY:
            if not merged:
                os.mkdir(base, entry.mode & 0o777, dir_fd=parent_fd)
            self._directory_times[name] = self._time(entry)
        elif entry.type == SYMLINK:
            os.symlink(entry.link, base, dir_fd=parent_fd)
        elif entry.type == LINK:
            self._link(parent_fd, base, entry)
        else:
            # docker: devices are made as the archive has them; whether the container may open them its device cgroup says.
            # Nodes have no use for set-id bits, so no chmod(2) is needed, which would follow a symlink put in the node's place.
            make_node(parent_fd, base, entry, mode=entry.mode & 0o1777, name=entry.name)
        self._finish(parent_fd, base, entry)

    def _forget_parent(self) -> None:
        if self._parent_fd >= 0:
            os.close(self._parent_fd)
            self._parent_fd = -1

    def _path(self, name: bytes) -> str:
        return os.fsdecode(self._destination + b"/" + name)

    def _make_room(self, parent_fd: int, base: bytes, name: bytes, entry: Entry) -> bool:
        """Remove the file that has the entry's name; True if it and the entry are directories, which are merged."""
        try:
            status = os.stat(base, dir_fd=parent_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        is_directory, becomes_directory = stat.S_ISDIR(status.st_mode), entry.type == DIRECTORY
        if is_directory and becomes_directory:
            return True
        if self._no_overwrite and is_directory != becomes_directory:
            old, new = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            raise Refused(f'cannot overwrite {old} "{os.fsdecode(name)}" with {new} "{os.fsdecode(self._destination) or "/"}"')
        remove_tree(base, dir_fd=parent_fd)
        return False

    def _regular(self, parent_fd: int, base: bytes, name: bytes, entry: Entry) -> None:
        # Nobody but root can read the file before it has its owner.
        mode = entry.mode & 0o700
        try:
            fd = os.open(base, CREATE_FLAGS, mode, dir_fd=parent_fd)
        except FileExistsError:
            self._make_room(parent_fd, base, name, entry)
            fd = os.open(base, CREATE_FLAGS, mode, dir_fd=parent_fd)
        try:
            write_data(self._reader, fd, entry)
            self._give(fd, entry)
            os.fchmod(fd, entry.mode & 0o7777)  # chown(2) takes the set-id bits away
            set_xattrs(fd, entry.xattrs or {})
            time_ns = self._time(entry)
            os.utime(fd, ns=(time_ns, time_ns))
        finally:
            os.close(fd)

    def _link(self, parent_fd: int, base: bytes, entry: Entry) -> None:
        target = _clean(entry.link, f'invalid hardlink "{os.fsdecode(entry.name)}" -> "{os.fsdecode(entry.link)}"')
        target_parent, _, target_base = target.rpartition(b"/")
        target_fd = open_in_root(self._root_fd, self._path(target_parent), os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(target_base, base, src_dir_fd=target_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
        finally:
            os.close(target_fd)

    def _finish(self, parent_fd: int, base: bytes, entry: Entry) -> None:
        """Set owner, mode, attributes and times of an entry that is no regular file.

        security: by a descriptor, or without following a symlink.
        """
        if entry.type == LINK:
            self._finish_link(parent_fd, base, entry)
            return
        self._give(base, entry, parent_fd)
        time_ns = self._time(entry)
        if entry.type == DIRECTORY:
            fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
            try:
                os.fchmod(fd, entry.mode & 0o7777)
                set_xattrs(fd, entry.xattrs or {})
            finally:
                os.close(fd)
        else:
            os.utime(base, ns=(time_ns, time_ns), dir_fd=parent_fd, follow_symlinks=False)

    def _finish_link(self, parent_fd: int, base: bytes, entry: Entry) -> None:
        """Owner and attributes of a link's entry are set on the file that it is a name of.

        docker: so is the owner, which takes set-id bits and capabilities away; mode and time are too where the link's target, looked up
        from the container's root, is there, which it is if the archive is placed in the root itself. Here they are so of regular files
        only: a node cannot be opened, and by its name chmod(2) might find something else.
        """
        if not stat.S_ISREG(os.stat(base, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            self._give(base, entry, parent_fd)
            return
        fd = os.open(base, _FILE_FLAGS, dir_fd=parent_fd)
        try:
            self._give(fd, entry)
            set_xattrs(fd, entry.xattrs or {})
            if not self._destination:
                time_ns = self._time(entry)
                os.fchmod(fd, entry.mode & 0o7777)
                os.utime(fd, ns=(time_ns, time_ns))
        finally:
            os.close(fd)

    def _give(self, file: int | bytes, entry: Entry, parent_fd: int | None = None) -> None:
        """Make the descriptor `file`, or the name in a directory, its owner's: the entry's, or whose all is to be.

        Where a mount shows other owners than its file system has, there may be no such owner. Then the file stays whose it is, the place's.
        """
        uid, gid = self._owner or (entry.uid, entry.gid)
        try:
            _chown(file, uid, gid, parent_fd)
        except OSError as error:
            if error.errno != errno.EOVERFLOW:
                raise
            _chown_if_known(file, uid, -1, parent_fd)
            _chown_if_known(file, -1, gid, parent_fd)

    def _time(self, entry: Entry) -> int:
        """docker: what is before 1970 is 1970."""
        return bounded_time(entry.mtime_ns if self._whole else max(entry.mtime_ns, 0))

    def _set_directory_time(self, name: bytes, time_ns: int) -> None:
        try:
            fd = open_in_root(self._root_fd, self._path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return  # a later entry, or the container, put something else in the directory's place
        try:
            os.utime(fd, ns=(time_ns, time_ns))
        finally:
            os.close(fd)


def _chown(file: int | bytes, uid: int, gid: int, parent_fd: int | None) -> None:
    if isinstance(file, int):
        os.fchown(file, uid, gid)
    else:
        os.chown(file, uid, gid, dir_fd=parent_fd, follow_symlinks=False)


def _chown_if_known(file: int | bytes, uid: int, gid: int, parent_fd: int | None) -> None:
    try:
        _chown(file, uid, gid, parent_fd)
    except OSError as error:
        if error.errno != errno.EOVERFLOW:
            raise


def _clean(name: bytes, refusal: str = "") -> bytes:
    """A name as a path below the destination; "." for the destination itself. Raises `Refused` for a name that leads out."""
    clean = posixpath.normpath(name.lstrip(b"/") or b".")
    if clean == b".." or clean.startswith(b"../"):
        raise Refused(refusal or f'invalid entry name "{os.fsdecode(name)}"')
    return clean
