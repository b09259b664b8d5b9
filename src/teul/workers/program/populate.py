"""What an image has where a volume is going to be is copied into the volume: all of it, as it is there.

Runs inside `view.enter`; source and target are descriptors, and nothing is followed. docker: containerd's continuity/fs.CopyDir.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from teul.store.atomic import remove_tree, write_all
from teul.workers.program.keeping import data_segments, kept_xattrs

_PIECE_BYTES = 1 << 20
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_IN_KERNEL = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class Copier:
    """Copies one tree. What is in its way in the target, left by a copy that was cut off, is replaced."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], tuple[int, bytes]] = {}

    def copy(self, source_fd: int, target_fd: int) -> None:
        """Copy all that is in the directory `source_fd`, and what the directory itself is like. Closes neither. Raises `OSError`."""
        # Not recursive: an image may nest directories deeper than Python's stack. Attributes come after the entries, for their times.
        stack: list[tuple[int, int, Iterator[str]]] = [(os.dup(source_fd), os.dup(target_fd), iter(os.listdir(source_fd)))]
        try:
            while stack:
                source, target, names = stack[-1]
                name = next(names, None)
                if name is None:
                    _copy_attributes(source, target, os.fstat(source))
                    stack.pop()
                    os.close(source)
                    os.close(target)
                    continue
                below = self._entry(source, target, os.fsencode(name))
                if below is not None:
                    stack.append((*below, iter(os.listdir(below[0]))))
        finally:
            for source, target, _ in stack:
                os.close(source)
                os.close(target)
            for directory_fd, _ in self._links.values():
                os.close(directory_fd)
            self._links.clear()

    def _entry(self, source: int, target: int, base: bytes) -> tuple[int, int] | None:
        """Copy one entry; returns the descriptors of a directory, whose entries have yet to be copied."""
        status = os.stat(base, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            try:
                os.mkdir(base, 0o700, dir_fd=target)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(base, dir_fd=target, follow_symlinks=False).st_mode):
                    os.unlink(base, dir_fd=target)
                    os.mkdir(base, 0o700, dir_fd=target)
            return os.open(base, _DIRECTORY_FLAGS, dir_fd=source), os.open(base, _DIRECTORY_FLAGS, dir_fd=target)
        if kind == stat.S_IFSOCK:
            return None  # docker: nobody listens at a copy of it
        _make_room(base, target)
        if status.st_nlink > 1 and self._link(status, base, target):
            return None
        if kind == stat.S_IFREG:
            _copy_file(source, target, base)
            return None
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(base, dir_fd=source), base, dir_fd=target)
        else:
            os.mknod(base, kind | 0o600, status.st_rdev, dir_fd=target)
        os.chown(base, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(base, stat.S_IMODE(status.st_mode), dir_fd=target)
        os.utime(base, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)
        return None

    def _link(self, status: os.stat_result, base: bytes, target: int) -> bool:
        """Make `base` another name of the file's copy; False if there is none yet: it will be this one."""
        key = (status.st_dev, status.st_ino)
        if key not in self._links:
            self._links[key] = (os.dup(target), base)
            return False
        directory_fd, first = self._links[key]
        os.link(first, base, src_dir_fd=directory_fd, dst_dir_fd=target, follow_symlinks=False)
        return True


def _make_room(base: bytes, target: int) -> None:
    try:
        os.unlink(base, dir_fd=target)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        remove_tree(base, dir_fd=target)


def _copy_file(source: int, target: int, base: bytes) -> None:
    read_fd = os.open(base, _FILE_FLAGS, dir_fd=source)
    try:
        write_fd = os.open(base, _NEW_FILE_FLAGS, 0o600, dir_fd=target)
        try:
            status = os.fstat(read_fd)
            _copy_data(read_fd, write_fd, status.st_size)
            _copy_attributes(read_fd, write_fd, status)
        finally:
            os.close(write_fd)
    finally:
        os.close(read_fd)


def _copy_data(read_fd: int, write_fd: int, size_bytes: int) -> None:
    """Holes stay holes, and where the filesystem can have it the two files share what is in them until one of them is written to."""
    for at, length in data_segments(read_fd, size_bytes):
        left = length - _copy_in_kernel(read_fd, write_fd, at, length)
        os.lseek(read_fd, at + length - left, os.SEEK_SET)
        os.lseek(write_fd, at + length - left, os.SEEK_SET)
        while left:
            piece = os.read(read_fd, min(left, _PIECE_BYTES))
            if not piece:
                return
            write_all(write_fd, piece)
            left -= len(piece)
    os.ftruncate(write_fd, size_bytes)


def _copy_in_kernel(read_fd: int, write_fd: int, at: int, length: int) -> int:
    """How much the kernel has copied by itself.

    kernel: copy_file_range(2) makes reflinks on btrfs, XFS and others that have them; it refuses, or ends early, between two filesystems.
    """
    done = 0
    while done < length:
        try:
            count = os.copy_file_range(read_fd, write_fd, length - done, at + done, at + done)
        except OSError as error:
            if error.errno not in _NOT_IN_KERNEL:
                raise
            break
        if not count:
            break
        done += count
    return done


def _copy_attributes(source: int, target: int, status: os.stat_result) -> None:
    """Owner first: it takes set-id bits and capabilities away. Then the mode, attributes, whose ACLs agree with it, and times."""
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name, value in kept_xattrs(source).items():
        try:
            os.setxattr(target, name, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP:  # the volume's filesystem has no such attributes
                raise
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
