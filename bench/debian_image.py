"""An image as people have them: the programs, libraries and documents that Debian has installed on this machine, in layers, and an
application made up above them, so large that the whole is as large on every machine.

Python with its standard library works in it, and so do the shell and coreutils, whatever its scale.
"""

from __future__ import annotations

import io
import os
import random
import re
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.archives import ArchiveWriter, Layer, regular
from support.images import MODIFIED_AT

NAME = "bench/debian:1"
PYTHON = "/usr/bin/python3"
# Reads every file of the image; given directories, every file below these.
READ_ALL = "/usr/bin/read-all"
LARGE_DIRECTORY = "/srv/data"
FILES, TOTAL_BYTES = 72_000, 1_200_000_000
LARGE_FILE_BYTES = 100_000_000

_PROGRAMS = ("sh", "bash", "cat", "env", "find", "head", "ls", "sleep", "true", "xargs", "python3")
_READ_ALL = '#!/bin/sh\n[ "$#" -gt 0 ] || set -- /etc /srv /usr\nexec find "$@" -xdev -type f -exec cat {} + > /dev/null\n'
# Debian keeps them as symlinks since directories and their counterparts below /usr were merged.
_MERGED = ("bin", "sbin", "lib", "lib64")


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer made of trees of this machine, of at most so many files and bytes. Larger single files are left out."""

    trees: tuple[str, ...]
    files: int
    size_bytes: int
    without: tuple[str, ...] = ()


_LARGEST_BYTES = 16_000_000
_PARTS = (
    _Part(("usr/bin", "usr/sbin", "usr/libexec", "usr/lib/*-linux-gnu"), 5_000, 450_000_000),
    _Part(("usr/lib/python3", "usr/lib/python3.*"), 6_000, 120_000_000),
    _Part(("usr/share",), 46_500, 380_000_000, without=("usr/share/doc",)),
    _Part(("usr/include",), 8_500, 120_000_000),
)


@dataclass(frozen=True, slots=True)
class DebianImage:
    """The image in the docker-save archive `path`, and its layers as a registry has them."""

    path: Path
    size_bytes: int
    files: int
    layers: tuple[Layer, ...]


def write_debian_image(directory: Path, *, scale: float = 1.0) -> DebianImage:
    """Write the archive and the gzipped layers into `directory`. `scale` shrinks all but what Python and the shell need."""
    path = directory / "debian.tar"
    with ArchiveWriter(path, NAME) as archive:
        packer = _Packer()
        with archive.layer() as tar:
            packer.base(tar)
        for part in _PARTS:
            with archive.layer() as tar:
                packer.trees(tar, part, scale)
        large_bytes = round(LARGE_FILE_BYTES * scale)
        with archive.layer() as tar:
            packer.made_up(tar, LARGE_DIRECTORY[1:], files=1, size_bytes=large_bytes)
        with archive.layer() as tar:
            files = max(round(FILES * scale) - packer.files, 100)
            size_bytes = max(round(TOTAL_BYTES * scale) - packer.size_bytes, 4_000 * files)
            packer.made_up(tar, "srv/application", files=files, size_bytes=size_bytes)
    return DebianImage(path, archive.size_bytes, packer.files, tuple(archive.layers))


class _Packer:
    """Fills layers, each path of this machine into the first that wants it, and counts."""

    def __init__(self) -> None:
        self.files = 0
        self.size_bytes = 0
        self._seen: set[str] = set()
        # Each layer has the directories above its files, as layers of builds do.
        self._directories: set[str] = set()
        self._dice = random.Random(20_240_102)
        # Half of every block is noise and half is text, as programs and libraries compress to about half of their size.
        self._noise = self._dice.randbytes(1 << 20)

    def base(self, tar: tarfile.TarFile) -> None:
        tar.addfile(_directory("etc"))
        tar.addfile(_directory("tmp", mode=0o1777))
        for name in _MERGED:
            link = tarfile.TarInfo(name)
            link.type, link.linkname, link.mtime = tarfile.SYMTYPE, f"usr/{name}", MODIFIED_AT
            tar.addfile(link)
        self._append(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        self._add(tar, _needed())
        self._append(tar, READ_ALL[1:], _READ_ALL.encode(), mode=0o755)

    def trees(self, tar: tarfile.TarFile, part: _Part, scale: float) -> None:
        self._directories.clear()
        files, size_bytes = self.files + round(part.files * scale), self.size_bytes + round(part.size_bytes * scale)
        for path in _below(part.trees, part.without):
            if self.files >= files or self.size_bytes >= size_bytes:
                return
            self._add(tar, [path])

    def made_up(self, tar: tarfile.TarFile, directory: str, *, files: int, size_bytes: int) -> None:
        """So many files of sizes as they are usual, 50 to a directory, the same on every machine."""
        for parent in (*_parents(directory), directory):
            tar.addfile(_directory(parent))
        weights = [self._dice.lognormvariate(0, 1.6) for _ in range(files)]
        total = sum(weights)
        for index, weight in enumerate(weights):
            if index % 50 == 0:
                tar.addfile(_directory(f"{directory}/part{index // 50}"))
            data = self._content(round(size_bytes * weight / total), f"{directory}/{index}")
            self._append(tar, f"{directory}/part{index // 50}/file{index}.bin", data)

    def _content(self, size_bytes: int, name: str) -> bytes:
        text = f"line of {name}\n".encode() * 256
        offset = self._dice.randrange(1 << 20)
        blocks: list[bytes] = []
        for _ in range(size_bytes // (4096 + len(text)) + 1):
            offset = (offset + 4096) % (len(self._noise) - 4096)
            blocks += (self._noise[offset : offset + 4096], text)
        return b"".join(blocks)[:size_bytes]

    def _append(self, tar: tarfile.TarFile, name: str, data: bytes, *, mode: int = 0o644) -> None:
        tar.addfile(regular(name, len(data), mode=mode), io.BytesIO(data))
        self.files += 1
        self.size_bytes += len(data)

    def _add(self, tar: tarfile.TarFile, paths: Iterable[str]) -> None:
        """Paths of this machine, relative to its root, with the directories above them, if no layer has them yet."""
        for path in paths:
            if path in self._seen:
                continue
            self._seen.add(path)
            for parent in _parents(path):
                if parent not in self._directories:
                    self._directories.add(parent)
                    tar.addfile(_anonymous(tar.gettarinfo(f"/{parent}", parent)))
            info = _anonymous(tar.gettarinfo(f"/{path}", path))
            if info.isreg():
                with open(f"/{path}", "rb") as source:
                    tar.addfile(info, source)
                self.size_bytes += info.size
            else:
                tar.addfile(info)
            self.files += 1


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _needed() -> list[str]:
    """The programs, Python's standard library, and what the dynamic linker loads for them; with the links that lead to each."""
    programs = [f"/usr/bin/{name}" for name in _PROGRAMS]
    library = Path("/usr/lib", Path(PYTHON).resolve().name)
    extensions = [str(path) for path in library.glob("lib-dynload/*.so")]
    listing = subprocess.run(["ldd", *programs, *extensions], check=True, capture_output=True, text=True).stdout
    libraries = set(re.findall(r"(?:=> |^\t)(/\S+)", listing, re.MULTILINE))
    paths = {linked for name in (*programs, *sorted(libraries)) for linked in _links(name)}
    return sorted(paths) + list(_below((str(library)[1:],), ()))


def _links(path: str) -> Iterator[str]:
    """`path` and what it leads to, below /usr, relative to the root."""
    directory = os.path.realpath(os.path.dirname(path))
    current = os.path.join(directory, os.path.basename(path))
    while True:
        yield current[1:]
        if not os.path.islink(current):
            return
        target = os.path.join(os.path.dirname(current), os.readlink(current))
        current = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))


def _below(patterns: Iterable[str], without: tuple[str, ...]) -> Iterator[str]:
    """Everything below the directories that the patterns mean, in one order, but what is no image's business."""
    for tree in [tree for pattern in patterns for tree in sorted(Path("/").glob(pattern)) if tree.is_dir()]:
        for directory, directories, files in os.walk(tree):
            directories.sort()
            if directory[1:] in without:
                directories.clear()
                continue
            for name in sorted([*files, *(name for name in directories if os.path.islink(f"{directory}/{name}"))]):
                path = f"{directory}/{name}"
                status = os.lstat(path)
                if stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_BYTES):
                    yield path[1:]


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uname = info.gname = ""
    return info


def _directory(name: str, *, mode: int = 0o755) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mtime, info.mode = tarfile.DIRTYPE, MODIFIED_AT, mode
    return info
