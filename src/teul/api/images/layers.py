"""Which layers the images consist of, and what they truly take: a route of Teul's own, for `teul images --tree --layers`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from teul.api.http.context import services
from teul.api.http.query import json_response
from teul.services.images.disk_usage import ImageUsage
from teul.services.images.layer_tree import TreeManifest

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def list_layers(request: web.Request) -> web.StreamResponse:
    """GET /teul/images/layers. Sizes on the disk are those that du(1) would count, every file once."""
    tree = await services(request).image_trees.layers()
    images = [
        {"Id": str(image.image_id), **_disk(image.usage), "Manifests": [_manifest_view(manifest) for manifest in image.manifests]}
        for image in tree.images
    ]
    return json_response({"TotalSize": tree.total_bytes, "Images": images})


ROUTES: tuple[tuple[str, str, Handler], ...] = (("GET", "/teul/images/layers", list_layers),)


def _manifest_view(found: TreeManifest) -> dict[str, Any]:
    layers = [
        {
            "DiffID": str(layer.diff_id),
            "ChainID": str(layer.chain_id),
            "Size": layer.size_bytes,
            "Content": layer.content_bytes,
            **_disk(layer.usage),
            "Images": layer.images,
        }
        for layer in found.layers
    ]
    return {"ID": str(found.manifest.descriptor.digest), **_disk(found.usage), "Layers": layers}


def _disk(usage: ImageUsage) -> dict[str, int]:
    return {"DiskSize": usage.size_bytes, "SharedSize": usage.shared_size_bytes}
