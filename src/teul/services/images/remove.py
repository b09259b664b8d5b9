"""Removing names and images, with Docker's rules about what forbids it.

A name goes if its image keeps another one, or no container stands on the image, or by force. The image follows its last name if nothing
forbids that. What forbids it and cannot be forced: a running container. What force overrides: other names, stopped containers.
Source: moby daemon/images/image_delete.go, image_prune.go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from teul.errors import Conflict
from teul.model.container import Container
from teul.model.event import Event
from teul.model.filter import Filters
from teul.model.image import Image, ImageManifest
from teul.model.moment import parse_until_ns
from teul.oci.digest import Digest
from teul.oci.platform import Platform, is_same
from teul.oci.reference import Reference
from teul.services.events import EventSink, image_event
from teul.services.images.catalog import PlatformMismatch, manifests_without
from teul.services.images.lookup import lookup
from teul.services.images.store import ImageStore
from teul.services.usage import Usage

log = logging.getLogger(__name__)

_PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})


class ImageInUse(Conflict):
    """Something forbids the removal. `by_container`: a container does, and still does when names go."""

    def __init__(self, message: str, *, by_container: bool) -> None:
        super().__init__(message)
        self.by_container = by_container


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was removed: a name, or the id of an image or of a layer."""

    untagged: str | None = None
    deleted: Digest | None = None


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed."""

    removed: list[Removed]
    reclaimed_bytes: int


class ImageRemover:
    """Removing, as users ask for it. One instance per engine."""

    def __init__(self, store: ImageStore, events: EventSink, usage: Usage[Digest]) -> None:
        self._store = store
        self._events = events
        self._usage = usage
        self._pruning = False

    async def remove(self, text: str, *, force: bool = False) -> list[Removed]:
        """Remove the name `text`, and the image with its last name; or the image that `text` is the id of.

        Raises `ImageInUse`, NotFound or InvalidParameter.
        """
        found, name = lookup(self._store.catalog, text)
        image = self._store.catalog.images[found.image_id]  # all of it, whichever part of it the text means
        removed: list[Removed] = []
        names = self._store.catalog.references(image.image_id)
        if name is not None:
            users = self._usage.users(image.image_id)
            if users and not force and _is_single(names):
                raise _is_referenced(text, image, users[0])
            await self._untag(image, self._with_digests(name, names), removed)
            if self._store.catalog.references(image.image_id):
                return removed
        elif _is_single(names):
            self._check(image, force=force, names_forbid=False)
            await self._untag(image, names, removed)
        try:
            self._check(image, force=force, names_forbid=True)
        except ImageInUse as error:
            if name is not None and (error.by_container or self._store.catalog.references(image.image_id)):
                return removed  # the name went, as was asked; the image may stay without an error
            raise
        await self._delete(image, removed)
        return removed

    async def remove_platform(self, text: str, platform: Platform, *, force: bool = False) -> list[Removed]:
        """Remove what the image called `text` has for that platform, and the image with the last of its platforms.

        A container that stands on the platform forbids it, and that cannot be forced, since its files would go. docker: by name, one that
        stands on any platform of the image does, unless forced. Raises `ImageInUse`, NotFound or InvalidParameter.
        """
        found, name = lookup(self._store.catalog, text)
        image = self._store.catalog.images[found.image_id]
        manifest = _of_platform(image, platform)
        if manifest is None:
            raise PlatformMismatch(text, image, platform)
        users = self._usage.users(image.image_id)
        if name is not None and users and not force:
            raise _is_referenced(text, image, users[0])
        if not any(other.ready for other in manifests_without(image, manifest)):
            return await self.remove(str(image.image_id), force=force)
        digest = manifest.descriptor.digest

        def standing() -> Container | None:
            return next((user for user in self._usage.users(image.image_id) if digest in _manifests_of(user, image)), None)

        layers = await self._store.delete_platform(image, manifest, is_used=lambda: standing() is not None)
        if layers is None:
            user = standing()
            if user is None:
                raise _in_use(image, "its platform belongs to another image as well", hard=True)
            state = "running" if user.state.counts_as_running else "stopped"
            raise _in_use(image, f"image is being used by {state} container {user.id[:12]}", hard=True)
        return [Removed(deleted=digest), *(Removed(deleted=chain_id) for chain_id in layers)]

    async def prune(self, filters: Filters) -> Pruned:
        """Remove images without a name, or with `dangling=false` all that no container stands on.

        Raises InvalidParameter, or Conflict while another prune runs.
        """
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            pruned = await self._prune(filters, time.time_ns())
        finally:
            self._pruning = False
        self._events.publish(Event("image", "prune", "", {"reclaimed": str(pruned.reclaimed_bytes)}))
        return pruned

    async def _prune(self, filters: Filters, now_ns: int) -> Pruned:
        filters.validate(_PRUNE_FILTERS)
        dangling_only = filters.boolean("dangling", default=True)
        until_ns = min((parse_until_ns(value, now_ns) for value in filters.get("until")), default=None)
        sizes = {chain_id: row.size_bytes for chain_id, row in self._store.catalog.snapshots.items()}
        removed: list[Removed] = []
        for image in list(self._store.catalog.shown()):
            if until_ns is not None and (image.created_ns is None or image.created_ns > until_ns):
                continue
            if not filters.pairs("label", image.labels) or ("label!" in filters and filters.pairs("label!", image.labels)):
                continue
            removed += await self._prune_one(image, dangling_only=dangling_only)
        return Pruned(removed, sum(sizes.get(item.deleted, 0) for item in removed if item.deleted is not None))

    async def _prune_one(self, image: Image, *, dangling_only: bool) -> list[Removed]:
        names = self._store.catalog.references(image.image_id)
        if dangling_only and any(name.tag is not None for name in names):
            return []
        removed: list[Removed] = []
        for text in [name.familiar for name in names] or [str(image.image_id)]:
            try:
                removed += await self.remove(text)
            except Conflict as error:
                log.debug("not pruned: %s", error.message)
        return removed

    def _with_digests(self, name: Reference, names: Sequence[Reference]) -> list[Reference]:
        """`name`, and if it is the repository's last tag also the repository's digests, which would name an image without a tag there."""
        name = name.without_tag() if name.digest is not None else name
        if name.digest is not None or any(other.tag is not None and other.name == name.name and other != name for other in names):
            return [name]
        return [name, *(other for other in names if other.digest is not None and other.name == name.name)]

    async def _untag(self, image: Image, names: Sequence[Reference], removed: list[Removed]) -> None:
        await self._store.untag(names)
        for name in names:
            self._events.publish(image_event(image.image_id, image.document, "untag"))
            removed.append(Removed(untagged=name.familiar))

    async def _delete(self, image: Image, removed: list[Removed]) -> None:
        await self._untag(image, self._store.catalog.references(image.image_id), removed)
        layers = await self._store.delete(image, is_used=self._usage.is_used)
        if layers is None:
            return  # somebody named it meanwhile, or was faster
        self._events.publish(image_event(image.image_id, image.document, "delete"))
        removed.append(Removed(deleted=image.image_id))
        removed += [Removed(deleted=chain_id) for chain_id in layers]

    def _check(self, image: Image, *, force: bool, names_forbid: bool) -> None:
        """Raise what forbids deleting `image`."""
        users = self._usage.users(image.image_id)
        for user in users:
            if user.state.counts_as_running:
                raise _in_use(image, f"image is being used by running container {user.id[:12]}", hard=True)
        if force:
            return
        if names_forbid and self._store.catalog.references(image.image_id):
            text = f"conflict: unable to delete {image.image_id.short} (must be forced) - image is referenced in multiple repositories"
            raise ImageInUse(text, by_container=False)
        for user in users:
            raise _in_use(image, f"image is being used by stopped container {user.id[:12]}", hard=False)


def _in_use(image: Image, why: str, *, hard: bool) -> ImageInUse:
    how = "cannot be forced" if hard else "must be forced"
    return ImageInUse(f"conflict: unable to delete {image.image_id.short} ({how}) - {why}", by_container=True)


def _is_referenced(text: str, image: Image, user: Container) -> ImageInUse:
    return ImageInUse(
        f'conflict: unable to remove repository reference "{text}" (must force) - container {user.id[:12]} '
        f"is using its referenced image {image.image_id.short}",
        by_container=True,
    )


def _of_platform(image: Image, platform: Platform) -> ImageManifest | None:
    """What is stored of the image for exactly that platform."""
    stored = (manifest for manifest in image.manifests if manifest.kind == "image" and manifest.descriptor.digest in image.documents)
    return next((manifest for manifest in stored if is_same(manifest.platform, platform)), None)


def _manifests_of(container: Container, image: Image) -> list[Digest]:
    """The manifests that the container uses; of a container that does not say, the one that the image stands for."""
    digests = [Digest(digest) for digest in container.manifests_of(str(image.image_id))]
    return digests or [image.chosen.descriptor.digest]


def _is_single(names: Sequence[Reference]) -> bool:
    """Whether all names are of one repository and at most one of them is a tag."""
    if len(names) <= 1:
        return len(names) == 1
    return sum(name.digest is None for name in names) <= 1 and len({name.name for name in names}) == 1
