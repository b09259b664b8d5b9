"""Pushing images: what `docker push` asks for. Blobs go out as they are stored, so an image has the same digest everywhere.

First its layers, several at once, then configs, manifests and indexes, and last the document that the tag names: a registry takes none of
them before what it leads to. What the client is told, and in which order, is what dockerd tells (moby distribution/push_v2.go).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial

from teul.aio import SlowWork, run_to_end, together
from teul.errors import InvalidParameter, NotFound
from teul.model.event import Event
from teul.model.image import Image
from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.oci.reference import Reference, parse_reference
from teul.registry.backoff import retrying_in
from teul.registry.client.registry_client import RegistryClient
from teul.registry.client.repository import Repository
from teul.registry.credentials import Credentials
from teul.services.events import EventSink
from teul.services.images.catalog import Catalog
from teul.services.images.kept import KeptImage, as_kept
from teul.services.images.origins import BlobOrigins, named_origins
from teul.services.images.push_plan import ContentMissing, PlannedLayer, PushPlan, plan_push
from teul.services.images.store import ImageStore
from teul.store.content import BlobUnknown, ContentStore

MAX_UPLOADS = 5  # docker: the default of max-concurrent-uploads
_CHUNK_BYTES = 1 << 20
_PROGRESS_SECONDS = 0.1
# docker: the smaller a layer, the less is tried to save its upload.
_SMALL_BYTES, _MIDDLE_BYTES = 100 << 10, 10 << 20


@dataclass(frozen=True, slots=True)
class Message:
    """A line by itself."""

    text: str


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """What becomes of the layer `shown`; with numbers while it is on its way."""

    shown: str
    action: str
    current_bytes: int | None = None
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the tag names in the registry from now on."""

    tag: str
    target: Descriptor


@dataclass(frozen=True, slots=True)
class PushedInstead:
    """Not the index `whole` went, for not all of it is here, but one manifest of it."""

    whole: Descriptor
    target: Descriptor


@dataclass(frozen=True, slots=True)
class Missing:
    """The push of `target` failed, for not all of it is here."""

    target: Descriptor


PushEvent = Message | LayerProgress | Pushed | PushedInstead | Missing
# Never waits: how far a push is must not depend on how fast its client reads.
Tell = Callable[[PushEvent], None]


class ImagePusher:
    """One instance per engine: so many layers go up at once, whoever pushes them."""

    def __init__(
        self, store: ImageStore, registries: RegistryClient, events: EventSink, origins: BlobOrigins, *, uploads: int = MAX_UPLOADS
    ) -> None:
        self._store = store
        self._registries = registries
        self._events = events
        self._origins = origins
        self._slots = asyncio.Semaphore(uploads)

    async def push(self, reference: Reference, credentials: Credentials, tell: Tell, *, platform: Platform | None = None) -> None:
        """Push the image that `reference` names, or without a tag all that have a tag in its repository, one after the other.

        With `platform`, of each image the manifest for that alone. Can be cancelled, and done again. Raises InvalidParameter, NotFound,
        Conflict, and what `Repository` does.
        """
        repository = await self._registries.repository(reference, credentials, push=True)
        tell(Message(f"The push refers to repository [{reference.name}]"))
        catalog = self._store.catalog
        names = _names(catalog, reference)
        await repository.meet()
        push = _Push(self._store, repository, self._origins, self._slots, tell)
        for name in _selected(names, reference):
            # Between two of them an image may have gone, or the name to another image.
            row = catalog.tags.get(name.canonical)
            if row is None:
                raise _TagUnknown(name)
            kept = await self._store.slow.run(as_kept, catalog.images[row.image_id], self._store.layers, frozenset(catalog.blobs))
            image, here = kept.image, {*catalog.blobs, *kept.image.documents, *kept.archives}
            try:
                plan = plan_push(name.familiar, image, here, host=self._store.host, platform=platform)
            except ContentMissing as error:
                tell(Missing(error.target))
                raise
            await push.push(name.tag or "", kept, plan)
            # docker: this event has the name where others have the id.
            self._events.publish(Event("image", "push", name.familiar, {**image.labels, "name": name.familiar_name}))


class _TagUnknown(NotFound):
    def __init__(self, reference: Reference) -> None:
        super().__init__(f"tag does not exist: {reference.familiar}")


def _names(catalog: Catalog, reference: Reference) -> list[Reference]:
    """The names in the repository of `reference`, sorted."""
    # Compared as text first: most names of an engine with many are other repositories'.
    texts = [text for text in catalog.tags if text.startswith(reference.name)]
    names = [name for name in map(parse_reference, sorted(texts)) if name.name == reference.name]
    if not names:
        raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
    return names


def _selected(names: Sequence[Reference], reference: Reference) -> Sequence[Reference]:
    """Those of `names` that a push of `reference` is about, all tagged."""
    if reference.digest is not None:
        raise InvalidParameter("cannot push a digest reference")
    if reference.tag is not None:
        if reference not in names:
            raise _TagUnknown(reference)
        return [reference]
    tagged = [name for name in names if name.digest is None]
    if not tagged:
        raise NotFound(f"no tags to push for {reference.familiar_name}")
    return tagged


class _Push:
    """Pushes to one repository, for one client."""

    def __init__(self, store: ImageStore, repository: Repository, origins: BlobOrigins, slots: asyncio.Semaphore, tell: Tell) -> None:
        self._catalog = store.catalog
        self._content = store.content
        self._slow = store.slow
        self._repository = repository
        self._origins = origins
        self._slots = slots
        self._tell = tell
        self._there: set[Digest] = set()

    @cached_property
    def _named(self) -> dict[Digest, list[Reference]]:
        """As `named_origins`. Not wanted where the registry has everything, which is the usual case."""
        return named_origins(self._catalog, self._repository.reference)

    async def push(self, tag: str, kept: KeptImage, plan: PushPlan) -> None:
        """Have the registry store all of `plan`, which is of the `kept` image, under `tag`."""
        tell, repository, image = self._tell, self._repository, kept.image
        with ExitStack() as stack:
            # An image that is removed meanwhile goes out all the same.
            digests = [layer.descriptor.digest for layer in plan.layers if layer.stored] + [config.digest for config in plan.configs]
            files = await run_to_end(self._slow.run(_open, self._content, kept.archives, digests, stack))
            for layer in plan.layers:
                tell(LayerProgress(layer.shown, "Preparing"))
            await together(self._push_layer(layer, files) for layer in plan.layers)
            await together(self._push_config(config, files) for config in plan.configs)
        await together(self._put(manifest, image) for manifest in plan.manifests if manifest.digest != plan.target.digest)
        for index in plan.indexes[:-1]:
            await self._put(index, image)
        target = plan.target
        await repository.put_manifest(tag, target.media_type, image.documents[target.digest])
        if plan.whole is not None:
            tell(PushedInstead(plan.whole, target))
        tell(Message(f"{tag}: digest: {target.digest} size: {target.size_bytes}"))
        tell(Pushed(tag, target))

    async def _put(self, document: Descriptor, image: Image) -> None:
        await self._repository.put_manifest(document.digest, document.media_type, image.documents[document.digest])

    async def _push_layer(self, layer: PlannedLayer, files: dict[Digest, int]) -> None:
        tell, digest = self._tell, layer.descriptor.digest
        if not layer.stored:
            tell(LayerProgress(layer.shown, "Skipped foreign layer"))
            return
        if digest in self._there:
            tell(LayerProgress(layer.shown, "Layer already exists"))
            return
        if self._slots.locked():
            tell(LayerProgress(layer.shown, "Waiting"))
        async with self._slots:
            repository = self._repository.telling(lambda seconds: tell(LayerProgress(layer.shown, retrying_in(seconds))))
            outcome = await self._store(repository, layer.descriptor, files[digest], partial(self._report, layer))
        tell(LayerProgress(layer.shown, outcome))

    async def _push_config(self, config: Descriptor, files: dict[Digest, int]) -> None:
        if config.digest not in self._there:
            async with self._slots:
                await self._store(self._repository, config, files[config.digest], lambda _position: None)

    async def _store(self, repository: Repository, blob: Descriptor, fd: int, report: Callable[[int], None]) -> str:
        """Have the repository store a blob, at the least cost; returns what to tell of it."""
        outcome = await self._find(repository, blob)
        if outcome is None:
            await repository.upload_blob(blob, _source(fd, blob.size_bytes, self._slow, report))
            outcome = "Pushed"
        self._there.add(blob.digest)
        self._origins.note(repository.reference, [blob.digest])
        return outcome

    async def _find(self, repository: Repository, blob: Descriptor) -> str | None:
        if await repository.blob_exists(blob):
            return "Layer already exists"
        seen = self._origins.seen(repository.reference, blob.digest)
        candidates = list(dict.fromkeys((*seen, *self._named.get(blob.digest, ()))))
        for origin in candidates[: _mount_attempts(blob.size_bytes)]:
            if await repository.mount_blob(blob.digest, origin):
                return f"Mounted from {origin.path}"
            self._origins.forget(origin, blob.digest)
        return None

    def _report(self, layer: PlannedLayer, position: int) -> None:
        self._tell(LayerProgress(layer.shown, "Pushing", position, layer.descriptor.size_bytes))


def _mount_attempts(size_bytes: int) -> int:
    return 1 if size_bytes <= _SMALL_BYTES else 3 if size_bytes <= _MIDDLE_BYTES else 4


def _open(content: ContentStore, archives: Mapping[Digest, str], digests: Iterable[Digest], stack: ExitStack) -> dict[Digest, int]:
    """Descriptors of the blobs, or of the `archives` in their place, which `stack` will close. Blocks. Raises `BlobUnknown`."""
    found: dict[Digest, int] = {}
    for digest in digests:
        try:
            found[digest] = os.open(archives.get(digest, content.path(digest)), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobUnknown(f"content digest {digest}: not found") from None
        stack.callback(os.close, found[digest])
    return found


def _source(fd: int, size_bytes: int, slow: SlowWork, report: Callable[[int], None]) -> Callable[[int], AsyncIterator[bytes]]:
    """The bytes of the file from an offset on. `report` is told how far they are, now and then and at their end."""

    async def read(offset: int) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        position, due = offset, 0.0
        while position < size_bytes:
            # To its end: the descriptor may be closed, and another file's, as soon as nobody waits here.
            chunk = await run_to_end(slow.run(os.pread, fd, _CHUNK_BYTES, position))
            if not chunk:
                return  # the upload notices
            yield chunk
            position += len(chunk)
            if clock() >= due or position == size_bytes:
                due = clock() + _PROGRESS_SECONDS
                report(position)

    return read
