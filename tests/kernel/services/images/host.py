"""An engine's root with the services of images on it, and two layers to put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kernel.workers.archive_cases import archive, member
from teul.aio import SlowWork
from teul.model.event import Event
from teul.model.image import Image
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.services.images.archives import ImageArchives
from teul.services.images.remove import ImageRemover
from teul.services.images.service import Images
from teul.services.images.store import ImageStore
from teul.services.usage import Usage
from teul.store.metadata.database import Database
from teul.store.workspace import Workspace
from teul.workers.layers import Limits

BASE = archive(member("etc/passwd", b"root"), member("bin/sh", b"#!", mode=0o755))
TOP = archive(member("app", b"program", mode=0o755), member("etc/.wh.passwd"))
AMD64 = Platform(os="linux", architecture="amd64")
MERGED = {"app": b"program", "bin/sh": b"#!"}


class Sink:
    """Remembers what was announced."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def publish(self, event: Event) -> None:
        assert event.type == "image"
        self.events.append((event.action, event.attributes.get("name", "")))


class Host:
    """An engine's root with the services of images on it; `restart` is what a new engine does."""

    def __init__(self, root: Path, *, indexes: bool, keeps_compressed: bool = True) -> None:
        self.root = root
        self.indexes = indexes
        self.keeps_compressed = keeps_compressed
        self.sink = Sink()
        self.limits = Limits()
        self.slow = SlowWork()

    async def start(self) -> Images:
        self.database = Database(str(self.root / "teul.db"))
        workspace = Workspace(str(self.root / "tmp"), self.slow)
        workspace.open()
        store = self.store = ImageStore(
            str(self.root), self.database, workspace, self.slow, indexes=self.indexes, keeps_compressed=self.keeps_compressed
        )
        await store.open()
        self.usage: Usage[Digest] = Usage()
        self.images = Images(store, self.sink, self.usage)
        self.archives = ImageArchives(store, self.sink, limits=self.limits, host=AMD64)
        self.remover = ImageRemover(store, self.sink, self.usage)
        return self.images

    def stop(self) -> None:
        self.database.close()
        self.store.layers.close()

    async def restart(self) -> Images:
        self.stop()
        return await self.start()

    def rows(self) -> dict[str, int]:
        tables = ("blobs", "snapshots", "images", "tags")
        return self.database.transact_blocking(
            lambda connection: {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
        )

    def files(self) -> dict[str, list[str]]:
        return {name: sorted(os.listdir(self.root / name)) for name in ("blobs/sha256", "snapshots", "tmp")}

    def is_empty(self) -> bool:
        return not any(self.rows().values()) and not any(self.files().values())

    def is_empty_but_for_work(self) -> bool:
        return not any(self.rows().values()) and not any(names for place, names in self.files().items() if place != "tmp")


def tree(images: Images, image: Image) -> dict[str, bytes]:
    """The files of an image, as if its layers were merged."""
    merged: dict[str, bytes] = {}
    with images.lower(image) as lower:
        for layer in reversed(lower):
            for path, _, names, directory_fd in os.fwalk(layer if isinstance(layer, str) else ".", dir_fd=_directory_fd(layer)):
                for base in sorted(names):
                    name = os.path.relpath(os.path.join(path, base), layer if isinstance(layer, str) else ".")
                    mode = os.stat(base, dir_fd=directory_fd, follow_symlinks=False).st_mode
                    if stat.S_ISREG(mode):
                        with open(os.open(base, os.O_RDONLY, dir_fd=directory_fd), "rb") as file:
                            merged[name] = file.read()
                    elif stat.S_ISCHR(mode):
                        merged.pop(name, None)
    return merged


def _directory_fd(layer: str | int) -> int | None:
    return layer if isinstance(layer, int) else None
