"""Images as archives: what `docker load`, `docker import`, `docker commit` and `docker save` ask for. One instance per engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence

from teul.model.image import Image
from teul.oci.digest import Digest
from teul.oci.platform import Platform, host_platform
from teul.services.events import EventSink, image_event
from teul.services.images.commit import CommitRequest, WriteChanges, commit_changes
from teul.services.images.import_ import ImportRequest, import_archive
from teul.services.images.load import LayerProgress, LoadedImage, Progress, load_archive
from teul.services.images.save import save_archive, select_images
from teul.services.images.store import ImageStore
from teul.workers.layers import Limits


class ImageArchives:
    """The ways in and out. Receiving and unpacking end with a cancelled caller and leave nothing; storing runs to its end once begun."""

    def __init__(self, store: ImageStore, events: EventSink, *, limits: Limits | None = None, host: Platform | None = None) -> None:
        self._store = store
        self._events = events
        self._limits = limits or Limits()
        self._host = host or host_platform()
        # Unpacking keeps a processor busy each; more at once would only share them out.
        self._slots = asyncio.Semaphore(max(2, os.cpu_count() or 1))

    async def load(
        self,
        stream: AsyncIterator[bytes],
        *,
        platform: Platform | None = None,
        progress: Progress | None = None,
        completes: bool = False,
    ) -> Sequence[LoadedImage]:
        """Store the images of a docker-save or OCI-layout archive; all of them or nothing.

        With `completes`, the archive may leave out blobs that are stored here.
        Raises InvalidParameter for an archive that is corrupt, truncated or hostile, System if the host fails.
        """
        loaded = await load_archive(
            self._store,
            stream,
            progress or _no_progress,
            host=self._host,
            wanted=platform,
            limits=self._limits,
            slots=self._slots,
            completes=completes,
        )
        for image in loaded:
            self._events.publish(image_event(image.image_id, image.document, "load"))
        return loaded

    async def import_(self, stream: AsyncIterator[bytes], request: ImportRequest) -> Digest:
        """Make an image of one layer from a root filesystem's tar. Raises InvalidParameter or System; then nothing is stored."""
        image = await import_archive(self._store, stream, request, host=self._host, limits=self._limits, slots=self._slots)
        document = image.platforms[0].document
        if request.reference is not None:
            self._events.publish(image_event(image.image_id, document, "tag", name=request.reference.familiar))
        self._events.publish(image_event(image.image_id, document, "import"))
        return image.image_id

    async def commit(self, find_parent: Callable[[], Image], write: WriteChanges, request: CommitRequest) -> Digest:
        """Make an image of another one and the layer that `write` brings. Raises as `commit_changes`; then nothing is stored."""
        image = await commit_changes(self._store, find_parent, write, request, slots=self._slots)
        document = image.platforms[0].document
        self._events.publish(image_event(image.image_id, document, "create"))
        if request.reference is not None:
            self._events.publish(image_event(image.image_id, document, "tag", name=request.reference.familiar))
        return image.image_id

    def save(
        self, names: Sequence[str], *, platform: Platform | None = None, without: Collection[Digest] = ()
    ) -> AsyncGenerator[bytes, None]:
        """The archive of the images called `names`, or of that one platform of them; of the blobs `without` only documents go out.

        Raises NotFound or InvalidParameter before it yields anything.
        """
        selected = select_images(self._store.catalog, names)
        for image_id in selected:
            self._events.publish(image_event(image_id, self._store.catalog.images[image_id].document, "save"))
        return save_archive(self._store, selected, platform=platform, without=without)


async def _no_progress(_: LayerProgress) -> None:
    return
