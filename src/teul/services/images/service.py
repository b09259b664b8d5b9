"""Images: everything the front ends and the other services ask of them. One instance per engine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from teul.errors import Conflict, InvalidParameter
from teul.model.event import Event
from teul.model.filter import Filters
from teul.model.image import Image
from teul.oci.digest import Digest
from teul.oci.image_config import ImageDocument
from teul.oci.platform import Platform, host_platform, suits
from teul.oci.reference import Reference
from teul.services.images.catalog import ImageUnknown
from teul.services.images.import_ import ImportRequest, import_archive
from teul.services.images.listing import HistoryItem, ImageQuery, ImageSummary, image_history, list_images
from teul.services.images.load import LayerProgress, LoadedImage, Progress, load_archive
from teul.services.images.remove import ImageUser, Pruned, Removed, Remover
from teul.services.images.save import save_archive, select_images
from teul.services.images.store import ImageStore
from teul.store.metadata.database import Database
from teul.workers.layers import Limits

__all__ = ["EventSink", "ImageUser", "Images", "PlatformMismatch"]


class EventSink(Protocol):
    """Where image events go; `services.events.Events` is one."""

    def publish(self, event: Event) -> None: ...


class Images:
    """The use cases. `resolve`, `get`, `layer_directories` and the lists wait for nothing; the rest runs to its end once begun.

    `in_use` tells which containers stand on an image; the composition root sets it once the containers are known.
    """

    in_use: Callable[[Digest], Sequence[ImageUser]]

    def __init__(
        self, root: str, database: Database, events: EventSink, *, limits: Limits | None = None, host: Platform | None = None
    ) -> None:
        self.in_use = lambda _: ()
        self.host = host or host_platform()
        self._store = ImageStore(root, database)
        self._events = events
        self._limits = limits or Limits()
        # Unpacking keeps a processor busy each; more at once would only share them out.
        self._slots = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        self._remover = Remover(self._store, self._users_of, self._publish)
        self._pruning = False

    async def open(self) -> None:
        """Read what there is and sweep what was left unfinished, which includes all of `<root>/tmp`. Before anything else runs."""
        await self._store.open()

    async def close(self) -> None:
        """Nothing is held between calls, so there is nothing to do; part of what every service has."""

    def resolve(self, reference: str, platform: Platform | None = None) -> Image:
        """The image called `reference` (name, id, or the beginning of an id). Raises NotFound ("No such image: …") or InvalidParameter."""
        image = self._store.catalog.resolve(reference)
        if platform is not None and not suits(image.document.platform, platform):
            raise PlatformMismatch(reference, image, platform)
        return image

    def get(self, image_id: Digest) -> Image:
        """The image with that id, also one that was deleted by force while containers stand on it. Raises NotFound."""
        image = self._store.catalog.images.get(image_id)
        if image is None:
            raise ImageUnknown(image_id)
        return image

    def layer_directories(self, image: Image) -> list[str]:
        """The unpacked layers, topmost first, as overlayfs wants its lowerdir."""
        return [self._store.layers.directory(chain_id) for chain_id in reversed(image.chain_ids)]

    def references(self, image: Image) -> list[Reference]:
        """The image's names, tags and digests, sorted."""
        return self._store.catalog.references(image.image_id)

    def tagged_at_ns(self, image: Image) -> int:
        """When the image was last given a name here; 0 if its names came with it."""
        return max((row.tagged_at_ns for row in self._store.catalog.tags.values() if row.image_id == image.image_id), default=0)

    def list(self, query: ImageQuery) -> Sequence[ImageSummary]:
        """Newest first. Raises InvalidParameter or NotFound for filters that make no sense."""
        return list_images(self._store.catalog, query, count_users=lambda image_id: len(self.in_use(image_id)), now_ns=time.time_ns())

    def history(self, image: Image) -> Sequence[HistoryItem]:
        """How the image was made, newest step first. Raises Integrity."""
        return image_history(self._store.catalog, image)

    def count(self) -> int:
        """How many images there are."""
        return sum(1 for _ in self._store.catalog.shown())

    def layers_size_bytes(self) -> int:
        """What all unpacked layers take together, each counted once."""
        return sum(row.size_bytes for row in self._store.catalog.snapshots.values())

    async def load(
        self, stream: AsyncIterator[bytes], *, platform: Platform | None = None, progress: Progress | None = None
    ) -> Sequence[LoadedImage]:
        """Store the images of a docker-save or OCI-layout archive; all of them or nothing.

        Raises InvalidParameter for an archive that is corrupt, truncated or hostile, System if the host fails.
        """
        loaded = await load_archive(
            self._store,
            stream,
            progress or _no_progress,
            host=self.host,
            wanted=platform,
            limits=self._limits,
            slots=self._slots,
        )
        for image in loaded:
            self._publish_document(image.image_id, image.document, "load")
        return loaded

    async def import_(self, stream: AsyncIterator[bytes], request: ImportRequest) -> Digest:
        """Make an image of one layer from a root filesystem's tar. Raises InvalidParameter or System."""
        image = await import_archive(self._store, stream, request, host=self.host, limits=self._limits, slots=self._slots)
        if request.reference is not None:
            self._publish_document(image.image_id, image.document, "tag", name=request.reference.familiar)
        self._publish_document(image.image_id, image.document, "import")
        return image.image_id

    def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """The archive of the images called `names`. Raises NotFound or InvalidParameter before it yields anything."""
        selected = select_images(self._store.catalog, names)
        for image_id in selected:
            self._publish(self.get(image_id), "save")
        return save_archive(self._store.catalog, self._store.content, selected)

    async def tag(self, image: Image, reference: Reference) -> None:
        """Give `image` a name, taking it from another image if need be."""
        if reference.familiar_name == "sha256":
            raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
        await self._store.tag(image, reference.with_default_tag())
        self._publish(image, "tag", name=reference.with_default_tag().familiar)

    async def remove(self, reference: str, *, force: bool = False) -> Sequence[Removed]:
        """Remove a name, and the image with its last one. Raises Conflict, NotFound or InvalidParameter."""
        return await self._remover.remove(reference, force=force)

    async def prune(self, filters: Filters) -> Pruned:
        """Remove what nobody needs. Raises InvalidParameter, or Conflict while another prune runs."""
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            pruned = await self._remover.prune(filters, time.time_ns())
        finally:
            self._pruning = False
        self._events.publish(Event("image", "prune", "", {"reclaimed": str(pruned.reclaimed_bytes)}))
        return pruned

    async def release(self, image_id: Digest) -> None:
        """Call after a container was removed: forgets an image that was deleted by force and has no container left. Idempotent."""
        image = self._store.catalog.images.get(image_id)
        if image is not None and image.manifest_digest is None and not self.in_use(image_id):
            await self._store.delete(image, keep_layers=False)

    async def release_unused(self) -> None:
        """`release` for every image, once `in_use` is set: an engine may have died between a container's end and its image's."""
        for image_id in list(self._store.catalog.images):
            await self.release(image_id)

    def _users_of(self, image_id: Digest) -> Sequence[ImageUser]:
        return self.in_use(image_id)

    def _publish(self, image: Image, action: str, name: str | None = None) -> None:
        self._publish_document(image.image_id, image.document, action, name)

    def _publish_document(self, image_id: Digest, document: ImageDocument, action: str, name: str | None = None) -> None:
        # docker: the attributes are the image's labels and its name; most actions give the id for a name.
        labels = (document.config.labels if document.config is not None else None) or {}
        self._events.publish(Event("image", action, str(image_id), {**labels, "name": name or str(image_id)}))


class PlatformMismatch(ImageUnknown):
    """The image is there, but for another platform."""

    def __init__(self, reference: str, image: Image, platform: Platform) -> None:
        super().__init__(image.image_id)
        self.message = (
            f"image with reference {reference} was found but its platform ({image.document.platform}) "
            f"does not match the specified platform ({platform})"
        )


async def _no_progress(_: LayerProgress) -> None:
    return
