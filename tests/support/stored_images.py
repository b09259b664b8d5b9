"""Images in a store without unpacking anything: layers are directories made by hand, so no process and no root is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.container_records import container_record
from teul.aio import SlowWork, run_blocking
from teul.model.container import Container
from teul.model.event import Event
from teul.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest, chain_ids
from teul.oci.documents import encode_manifest
from teul.oci.image_config import History, ImageConfig, ImageDocument, RootFS, decode_image_config, encode_image_config
from teul.oci.platform import Platform
from teul.oci.reference import parse_reference
from teul.services.images.archives import ImageArchives
from teul.services.images.new_image import BlobFile, NewImage, NewPlatform, PreparedLayer
from teul.services.images.remove import ImageRemover
from teul.services.images.service import Images
from teul.services.images.store import ImageStore
from teul.services.usage import Usage
from teul.store.metadata.database import Database
from teul.store.workspace import Workspace

AMD64 = Platform(os="linux", architecture="amd64")


class EventLog:
    """Remembers (action, name) of what was announced."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def publish(self, event: Event) -> None:
        self.events.append((event.action, event.attributes.get("name", "")))


class StoredImages:
    """The services of images on a root in `path`, and a way to put images there."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.root = path
        self.log = EventLog()
        self.database = Database(str(path / "teul.db"))
        self.slow = SlowWork()
        self.workspace = Workspace(str(path / "tmp"), self.slow)
        self.store = ImageStore(str(path), self.database, self.workspace, self.slow, host=AMD64)
        self.usage: Usage[Digest] = Usage()
        self.images = Images(self.store, self.log, self.usage)
        self.archives = ImageArchives(self.store, self.log, host=AMD64)
        self.remover = ImageRemover(self.store, self.log, self.usage)
        self._counter = 0

    @classmethod
    async def open(cls, path: Path) -> StoredImages:
        stored = await run_blocking(cls, path)
        await run_blocking(stored.workspace.open)
        await stored.store.open()
        return stored

    async def close(self) -> None:
        async with self.slow:
            await run_blocking(self.database.close)

    async def add(
        self,
        *names: str,
        layers: Sequence[bytes] = (b"layer",),
        created: str | None = "2024-01-02T03:04:05Z",
        labels: Mapping[str, str] | None = None,
        tagged_at_ns: int = 0,
        **document: Any,
    ) -> Digest:
        """Store an image with a layer per element of `layers`, whose size is the number of its bytes."""
        image, prepared = self.prepare(*names, layers=layers, created=created, labels=labels, **document)
        assert await self.store.commit([image], prepared, tagged_at_ns=tagged_at_ns)
        return image.image_id

    def prepare(
        self, *names: str, layers: Sequence[bytes], created: str | None = None, labels: Mapping[str, str] | None = None, **document: Any
    ) -> tuple[NewImage, dict[Digest, PreparedLayer]]:
        """What a load would have made of such an image."""
        diff_ids = [Digest.of(layer) for layer in layers]
        config = document.pop("config", None) or ImageConfig(labels=dict(labels) if labels is not None else None)
        history = document.pop("history", [History(created_by=f"layer {number}") for number, _ in enumerate(layers)])
        raw = encode_image_config(
            ImageDocument(
                architecture=document.pop("architecture", "amd64"),
                os="linux",
                created=created,
                config=config,
                rootfs=RootFS(diff_ids=diff_ids),
                history=history,
                **document,
            )
        )
        descriptors = [
            Descriptor(media_type=OCI_LAYER, digest=diff_id, size_bytes=len(layer)) for diff_id, layer in zip(diff_ids, layers, strict=True)
        ]
        config_descriptor = Descriptor(media_type=OCI_CONFIG, digest=Digest.of(raw), size_bytes=len(raw))
        manifest = encode_manifest(config_descriptor, descriptors)
        target = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(manifest), size_bytes=len(manifest))
        blobs: dict[Digest, BlobFile] = {}
        prepared: dict[Digest, PreparedLayer] = {}
        for diff_id, chain_id, layer in zip(diff_ids, chain_ids(diff_ids), layers, strict=True):
            self._counter += 1
            directory = self.root / "tmp" / f"prepared-{self._counter}"
            (directory / "fs").mkdir(parents=True)
            (directory / "fs/file").write_bytes(layer)
            blob = self.root / "tmp" / f"blob-{self._counter}"
            blob.write_bytes(layer)
            blobs[diff_id] = BlobFile(os.fspath(blob), len(layer))
            prepared[chain_id] = PreparedLayer(chain_id, os.fspath(directory), len(layer))
        tags = [parse_reference(name).with_default_tag() for name in names]
        platforms = (NewPlatform(decode_image_config(raw), tuple(descriptors)),)
        return NewImage(target, {target.digest: manifest, config_descriptor.digest: raw}, platforms, blobs, tags), prepared

    async def add_index(self, *names: str, **layers: Sequence[bytes]) -> Digest:
        """Store an image for several platforms: the layers of each Linux, by its architecture."""
        images: list[tuple[str, NewImage]] = []
        prepared: dict[Digest, PreparedLayer] = {}
        for architecture, own in layers.items():
            image, made = self.prepare(layers=own, architecture=architecture)
            images.append((architecture, image))
            prepared |= made
        children = [
            {"mediaType": OCI_MANIFEST, "digest": str(image.image_id), "size": image.target.size_bytes}
            | {"platform": {"os": "linux", "architecture": architecture}}
            for architecture, image in images
        ]
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()
        whole = NewImage(
            Descriptor(media_type=OCI_INDEX, digest=Digest.of(index), size_bytes=len(index)),
            {Digest.of(index): index, **{digest: data for _, image in images for digest, data in image.documents.items()}},
            tuple(platform for _, image in images for platform in image.platforms),
            {digest: file for _, image in images for digest, file in image.blobs.items()},
            [parse_reference(name).with_default_tag() for name in names],
        )
        assert await self.store.commit([whole], prepared, tagged_at_ns=0)
        return whole.image_id

    def use(self, image_id: Digest, *container_ids: str, running: bool = False) -> list[Container]:
        """Have containers stand on an image, each newer than those before it."""
        containers = []
        for container_id in container_ids:
            self._counter += 1
            containers.append(container_record(container_id, image_id, created_at_ns=self._counter, running=running))
            self.usage.declare(containers[-1], [image_id])
        return containers

    async def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        return await run_blocking(self.rows_blocking)

    def rows_blocking(self) -> dict[str, int]:
        """As `rows`, for threads."""
        tables = ("blobs", "snapshots", "images", "tags")
        return self.database.transact_blocking(
            lambda connection: {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
        )
