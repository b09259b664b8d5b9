"""Images: what there are, by which names, and what containers need of them. One instance per engine.

How images come in and go out as archives is in `archives`, how they are removed in `remove`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from teul.errors import InvalidParameter
from teul.model.container import Container
from teul.model.image import Image
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.oci.reference import Reference
from teul.services.events import EventSink, image_event
from teul.services.images.catalog import ImageUnknown, PlatformMismatch
from teul.services.images.disk_usage import DiskUsage
from teul.services.images.listing import (
    HistoryItem,
    ImageQuery,
    ImageSummary,
    ManifestSummary,
    image_history,
    list_images,
    summarize_manifests,
)
from teul.services.images.lookup import resolve
from teul.services.images.measuring import measure_stored
from teul.services.images.store import ImageStore
from teul.services.usage import Usage
from teul.store.metadata.database import DiskFull

log = logging.getLogger(__name__)


class Images:
    """The images and their names. Looking waits for nothing."""

    def __init__(self, store: ImageStore, events: EventSink, usage: Usage[Digest]) -> None:
        self._store = store
        self._events = events
        self._usage = usage

    # -- looking

    def resolve(self, reference: str, platform: Platform | None = None) -> Image:
        """The image called `reference` (name, id, or the beginning of an id), with the manifest chosen that suits the platform.

        Raises NotFound ("No such image: …") or InvalidParameter.
        """
        image = resolve(self._store.catalog, reference)
        if platform is None:
            return image
        suitable = image.for_platform(platform)
        if suitable is None:
            raise PlatformMismatch(reference, image, platform)
        return suitable

    def get(self, image_id: Digest) -> Image:
        """The image with that id, also one that was deleted by force while containers stand on it. Raises NotFound."""
        image = self._store.catalog.images.get(image_id)
        if image is None:
            raise ImageUnknown(image_id)
        return image

    def of(self, container: Container) -> Image:
        """The image that the container stands on, as `get`, with the manifest chosen that the container was made of. Raises NotFound."""
        image = self.get(Digest(container.image_id))
        descriptor = container.image_manifest
        return image.for_manifest(Digest(descriptor["digest"])) if descriptor is not None else image

    def layer_directories(self, image: Image) -> list[str]:
        """Where the layers are on the disk, topmost first."""
        return [self._store.layers.directory(chain_id) for chain_id in reversed(image.chain_ids)]

    def lower(self, image: Image) -> AbstractContextManager[list[str | int]]:
        """The layers, topmost first, as overlayfs takes them while the context lasts: directories, and descriptors of mounts.

        Blocks. Raises `OSError`.
        """
        return self._store.layers.lower(image.chain_ids)

    def references(self, image: Image) -> list[Reference]:
        """The image's names, tags and digests, sorted."""
        return self._store.catalog.references(image.image_id)

    def tagged_at_ns(self, image: Image) -> int:
        """When the image was last given a name here; 0 if its names came with it."""
        return max((row.tagged_at_ns for row in self._store.catalog.names(image.image_id)), default=0)

    def list(self, query: ImageQuery) -> Sequence[ImageSummary]:
        """Newest first. Raises InvalidParameter or NotFound for filters that make no sense."""
        return list_images(self._store.catalog, query, self._usage, now_ns=time.time_ns())

    def history(self, image: Image) -> Sequence[HistoryItem]:
        """How the image was made, newest step first. Raises Integrity."""
        return image_history(self._store.catalog, image)

    def manifests(self, image: Image) -> Sequence[ManifestSummary]:
        """All that the image leads to, on whatever platform."""
        return summarize_manifests(image, self._usage)

    def count(self) -> int:
        """How many images there are."""
        return sum(1 for _ in self._store.catalog.shown())

    async def disk_usage(self) -> DiskUsage:
        """What blobs and layers take on the disk: all of them, and those of every image in the list."""
        return await measure_stored(self._store)

    # -- changing

    async def tag(self, image: Image, reference: Reference) -> None:
        """Give `image` a name, taking it from another image if need be. Raises InvalidParameter."""
        if reference.familiar_name == "sha256":
            raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
        await self._store.tag(image, reference.with_default_tag())
        self._events.publish(image_event(image.image_id, image.document, "tag", name=reference.with_default_tag().familiar))

    async def release(self, image_id: Digest) -> None:
        """Call after a container was removed: forgets an image that was deleted by force and has no container left. Idempotent."""
        image = self._store.catalog.images.get(image_id)
        if image is not None and image.deleted and not self._usage.is_used(image_id):
            await self._store.delete(image, is_used=self._usage.is_used)

    async def release_unused(self) -> None:
        """`release` for every image, once all containers are known: an engine may have died between a container's end and its image's.

        On a full disk they stay, for the next engine: that one could not be told to make room either, if this one gave up.
        """
        for image_id in list(self._store.catalog.images):
            try:
                await self.release(image_id)
            except DiskFull as error:
                log.warning("image %s stays for now: %s", image_id, error.message)
