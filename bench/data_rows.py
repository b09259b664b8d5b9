"""The rows of data: what is copied into containers and out of them, and what volumes cost at the start of one."""

from __future__ import annotations

import os
import statistics
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import archives
from bench.contender import Contender, accept
from bench.row import Row, timed
from support import images

SMALL_FILES = 10_000
SMALL_BYTES = 1000
LARGE_BYTES = 1 << 30
IMAGE_FILES = 5000
VOLUMES = 5
IMAGE = "bench/files:1"
_PIECE_BYTES = 1 << 20


class CopyRow(Row):
    """`docker cp` as the engine sees it: the archive's way, without what the command itself needs. The container does not run."""

    budget = 0.7
    rounds = 5
    quick_rounds = 1
    write: Callable[[Path, int], None]  # an archive with the directory `data`; the number is what to make smaller by

    def archive(self) -> Path:
        """What is copied, as a file that is written once."""
        path = self.options.directory / f"{type(self).write.__name__}.tar"
        if not path.exists():
            type(self).write(path, 10 if self.options.quick else 1)
        return path

    def place(self, contender: Contender, container: str) -> None:
        with self.archive().open("rb") as source:
            accept(200, "PUT archive", contender.api.upload(f"/containers/{container}/archive?path=/", source, method="PUT"))


class CopyIn(CopyRow):
    """Nothing is removed before the last round: an ext4 without a journal, as virtual machines have it, looks at each inode that has become
    free in the last minutes before it takes one that is not, and does nothing else for most of a round.
    """

    def measure(self, contender: Contender) -> float:
        container = contender.create("true", network="none")
        self.archive()
        os.sync()  # what was written before is not to be waited for now
        return timed(lambda: self.place(contender, container))


class CopyOut(CopyRow):
    def prepare(self, contender: Contender) -> None:
        container = contender.create("true", network="none")
        self.place(contender, container)
        self.made[contender.name] = container

    def measure(self, contender: Contender) -> float:
        os.sync()
        return timed(lambda: download(contender, f"/containers/{self.made[contender.name]}/archive?path=/data", self.archive()))


def small_files(path: Path, divisor: int) -> None:
    with path.open("wb") as file:
        file.write(many_files(SMALL_FILES // divisor))


def large_file(path: Path, divisor: int) -> None:
    # Of zeros, a hole in the archive: what the client needs to read it is the same for both.
    size_bytes = LARGE_BYTES // divisor
    with path.open("wb") as file:
        for name, kind, size in (("data", tarfile.DIRTYPE, 0), ("data/large", tarfile.REGTYPE, size_bytes)):
            info = archives.regular(name, size, mode=0o755)
            info.type = kind
            file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(file.tell() + size_bytes + -size_bytes % 512 + 1024)


def many_files(number: int) -> bytes:
    """An archive of `number` small files in directories of a hundred, below `data`."""
    entries = [images.directory("data")]
    for each in range(number):
        if each % 100 == 0:
            entries.append(images.directory(f"data/{each // 100}"))
        entries.append(images.file(f"data/{each // 100}/file-{each}", f"{each:08}".encode() * (SMALL_BYTES // 8)))
    return images.pack(entries)


def download(contender: Contender, path: str, expected: Path) -> None:
    """Read an archive that has the same files as `expected`, and so about its size."""
    status, size_bytes = contender.api.download(path)
    if status != 200 or abs(size_bytes - expected.stat().st_size) > 0.05 * expected.stat().st_size:
        raise RuntimeError(f"{contender.name}: {status}, and an archive of {size_bytes} bytes")


class CopyManyIn(CopyIn):
    name = f"cp of {SMALL_FILES} small files into a container"
    write = staticmethod(small_files)


class CopyManyOut(CopyOut):
    name = f"cp of {SMALL_FILES} small files out of a container"
    write = staticmethod(small_files)


class CopyLargeIn(CopyIn):
    name = "cp of a file of 1 GB into a container"
    rounds = 3
    write = staticmethod(large_file)


class CopyLargeOut(CopyOut):
    name = "cp of a file of 1 GB out of a container"
    rounds = 3
    write = staticmethod(large_file)


class CopyUp(Row):
    name = f"first use of a volume where the image has {IMAGE_FILES} files"
    budget = 0.7
    rounds = 5
    quick_rounds = 1

    def prepare(self, contender: Contender) -> None:
        files = many_files(IMAGE_FILES // (10 if self.options.quick else 1))
        image = images.Image((IMAGE,), (images.pack(images.busybox_entries()), files), {"Cmd": ["true"]})
        contender.host.load(image.docker_archive())

    def measure(self, contender: Contender) -> float:
        os.sync()
        config = {"NetworkMode": "none", "Mounts": [volume("/data")]}
        return timed(lambda: contender.start(contender.create("sleep", "100000", Image=IMAGE, HostConfig=config)))


class StartWithVolumes(Row):
    """Compared with itself: the same without volumes, in turn. They exist, with something in them."""

    name = f"start of a container with {VOLUMES} volumes against one with none"
    budget = 1.1
    unit = "ratio"
    absolute = True
    rounds = 3
    quick_rounds = 1

    def measure(self, contender: Contender) -> float:
        mounts = [volume(f"/volumes/{number}", f"bench-{number}") for number in range(VOLUMES)]
        times: tuple[list[float], list[float]] = ([], [])
        contender.run("touch", *(f"/volumes/{number}/used" for number in range(VOLUMES)), HostConfig={"Mounts": mounts})
        for _ in range(5 if self.options.quick else 15):
            for seconds, wanted in zip(times, (mounts, []), strict=True):
                container = contender.create("sleep", "100000", HostConfig={"NetworkMode": "none", "Mounts": wanted})
                seconds.append(timed(lambda container=container: contender.start(container)))  # type: ignore[misc]
                contender.remove(container)
        for mount in mounts:
            contender.call(204, "DELETE", f"/volumes/{mount['Source']}")
        return statistics.median(times[0]) / statistics.median(times[1])


def volume(target: str, name: str = "") -> dict[str, Any]:
    return {"Type": "volume", "Target": target} | ({"Source": name} if name else {})


ROWS: tuple[type[Row], ...] = (CopyManyIn, CopyManyOut, CopyLargeIn, CopyLargeOut, CopyUp, StartWithVolumes)
