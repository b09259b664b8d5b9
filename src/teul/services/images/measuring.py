"""What images take on the disk, measured in threads of its own: as a whole, and by manifests and layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from teul.oci.digest import Digest
from teul.services.images.catalog import blobs_of, chains_of
from teul.services.images.disk_usage import Contents, DiskUsage, PartName, measure
from teul.services.images.layer_tree import LayerTree, Part, layer_tree, parts_of
from teul.services.images.store import ImageStore


async def measure_stored(store: ImageStore, parts: Mapping[PartName, Part] | None = None) -> DiskUsage:
    """What blobs and layers take on the disk: all of them, those of every image in the list, and those of `parts`."""
    catalog = store.catalog

    def contents(blobs: Collection[Digest], chains: Collection[Digest]) -> Contents:
        return Contents([store.content.path(digest) for digest in blobs], [store.layers.place_of(chain_id) for chain_id in chains])

    stored = contents(catalog.blobs, catalog.snapshots)
    images = {image.image_id: contents(blobs_of(image), chains_of(image)) for image in catalog.shown()}
    return await store.slow.run(measure, stored, images, {name: contents(part.blobs, part.chains) for name, part in (parts or {}).items()})


class ImageTrees:
    """Images by their layers. One instance per engine."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    async def layers(self) -> LayerTree:
        """Every image of the list with its manifests and their layers: what each takes on the disk, and what of it others have too."""
        catalog = self._store.catalog
        images = list(catalog.shown())
        return layer_tree(images, await measure_stored(self._store, parts_of(images)), catalog.layer_size, catalog.blobs)
