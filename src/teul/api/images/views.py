"""What the API shows of images: documents in Docker's shapes, for the client's version.

Member by member in the order in which dockerd writes them, since `docker inspect` prints what it receives.
Source: moby api/types/image, daemon/server/router/image/inspect_response.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from teul.api.http.progress import progress_line
from teul.model.image import Image
from teul.oci.descriptor import REFERENCE_DIGEST, Descriptor
from teul.oci.documents import encode_document
from teul.oci.image_config import ImageConfig
from teul.oci.reference import Reference
from teul.oci.timestamp import ZERO_TIME, normalize_time, render_time
from teul.services.images.listing import HistoryItem, ImageSummary, ManifestSummary, split_names
from teul.services.images.load import LoadedImage
from teul.services.images.pull import PullStep
from teul.services.images.remove import Removed

Version = tuple[int, int]
Document = dict[str, Any]

# These members were always there in older answers, set or not.
_ALWAYS = {"Cmd": None, "Entrypoint": None, "Env": None, "Labels": None, "OnBuild": None, "User": "", "Volumes": None, "WorkingDir": ""}
_BEFORE_1_50 = {
    "AttachStderr": False,
    "AttachStdin": False,
    "AttachStdout": False,
    "Domainname": "",
    "Hostname": "",
    "Image": "",
    "OpenStdin": False,
    "StdinOnce": False,
    "Tty": False,
}


def summary_view(summary: ImageSummary, version: Version, manifests: Sequence[ManifestSummary] | None = None) -> Document:
    """An element of GET /images/json; with `manifests` if the client has asked for them."""
    image = summary.image
    tags, digests = [tag.familiar for tag in summary.tags], [digest.familiar for digest in summary.digests]
    if version < (1, 43) and not tags and not digests:
        tags, digests = ["<none>:<none>"], ["<none>@<none>"]
    document: Document = {
        "Containers": summary.containers if version >= (1, 51) else -1,
        "Created": (image.created_ns or 0) // 1_000_000_000,
        "Id": str(image.image_id),
        "Labels": image.config.labels,
        "ParentId": image.document.parent,
        **_target_members(image, manifests, version, since=(1, 47)),
        "RepoDigests": digests,
        "RepoTags": tags,
        "SharedSize": summary.shared_size_bytes,
        "Size": image.size_bytes,
    }
    if version < (1, 44):
        document["VirtualSize"] = image.size_bytes
    return document


def inspect_view(
    image: Image,
    names: Sequence[Reference],
    layer_directories: Sequence[str],
    tagged_at_ns: int,
    version: Version,
    *,
    manifests: Sequence[ManifestSummary] | None = None,
) -> Document:
    """GET /images/{name}/json; with `manifests` if the client has asked for them."""
    source = image.document
    tags, digests = split_names(names, image.image_id)
    document: Document = {
        "Id": str(image.image_id),
        "RepoTags": [tag.familiar for tag in tags],
        "RepoDigests": [digest.familiar for digest in digests],
        "Parent": source.parent,
        "Comment": source.comment or (source.history[-1].comment if source.history else ""),
    }
    if source.created:
        document["Created"] = normalize_time(source.created)
    elif version < (1, 44):
        document["Created"] = ZERO_TIME
    if version < (1, 45):
        if source.container:
            document["Container"] = source.container
        document["ContainerConfig"] = dict(sorted({**_ALWAYS, **_BEFORE_1_50}.items()))
    document |= {"DockerVersion": source.docker_version, "Author": source.author, "Architecture": source.architecture}
    if source.variant:
        document["Variant"] = source.variant
    document["Os"] = source.os or "linux"
    if source.os_version:
        document["OsVersion"] = source.os_version
    document["Size"] = image.size_bytes
    if version < (1, 44) and image.size_bytes:
        document["VirtualSize"] = image.size_bytes
    root: Document = {"Type": source.rootfs.type if source.rootfs is not None else "layers"}
    if source.diff_ids:
        root["Layers"] = [str(diff_id) for diff_id in source.diff_ids]
    document |= {
        "GraphDriver": {"Data": _directories_view(layer_directories), "Name": "overlay2"},
        "RootFS": root,
        "Metadata": {"LastTagTime": render_time(tagged_at_ns) if tagged_at_ns else ZERO_TIME},
        **_target_members(image, manifests, version, since=(1, 48)),
        "Config": _config_view(image.config, version),
    }
    return document


def descriptor_view(descriptor: Descriptor) -> Document:
    """OCI image-spec descriptor.md."""
    view: Document = msgspec.json.decode(encode_document(descriptor))
    return view


def _target_members(image: Image, manifests: Sequence[ManifestSummary] | None, version: Version, *, since: Version) -> Document:
    members: Document = {}
    if version >= (1, 48):
        members["Descriptor"] = descriptor_view(image.target)
    if manifests is not None and version >= since:
        members["Manifests"] = [_manifest_view(manifest) for manifest in manifests]
    return members


def _manifest_view(summary: ManifestSummary) -> Document:
    """docker: api/types/image/manifest.go."""
    manifest = summary.manifest
    unpacked = manifest.size_bytes if manifest.ready else 0
    view: Document = {
        "ID": str(manifest.descriptor.digest),
        "Descriptor": descriptor_view(manifest.descriptor),
        "Available": manifest.available,
        "Size": {"Content": manifest.content_bytes, "Total": manifest.content_bytes + unpacked},
        "Kind": manifest.kind,
    }
    if manifest.kind == "image":
        platform = msgspec.to_builtins(manifest.platform)
        view["ImageData"] = {"Platform": platform, "Containers": list(summary.containers), "Size": {"Unpacked": unpacked}}
    elif manifest.kind == "attestation":
        view["AttestationData"] = {"For": (manifest.descriptor.annotations or {}).get(REFERENCE_DIGEST, "")}
    return view


def history_view(item: HistoryItem) -> Document:
    """An element of GET /images/{name}/history."""
    return {
        "Comment": item.comment,
        "Created": (item.created_ns or 0) // 1_000_000_000,
        "CreatedBy": item.created_by,
        "Id": str(item.image_id) if item.image_id is not None else "<missing>",
        "Size": item.size_bytes,
        "Tags": [tag.familiar for tag in item.tags] or None,
    }


def removed_view(removed: Removed) -> Document:
    """An element of the answer to DELETE /images/{name}."""
    return {"Untagged": removed.untagged} if removed.untagged is not None else {"Deleted": str(removed.deleted)}


def pull_view(step: PullStep) -> Document:
    """A line of the answer to POST /images/create."""
    if not step.is_of_layer:
        return {"status": step.status} | ({"id": step.subject} if step.subject else {})
    received = step.received
    return progress_line(step.subject, step.status, *((received.current_bytes, received.total_bytes) if received is not None else ()))


def loaded_lines(loaded: Sequence[LoadedImage]) -> list[str]:
    """What `docker load` prints."""
    lines = []
    for image in loaded:
        for tag in image.tags:
            if (old := image.replaced.get(tag)) is not None:
                lines.append(f"The image {tag.familiar} already exists, renaming the old one with ID {old} to empty string\n")
            lines.append(f"Loaded image: {tag.familiar}\n")
        if not image.tags:
            lines.append(f"Loaded image ID: {image.image_id}\n")
    return lines


def _config_view(config: ImageConfig, version: Version) -> Document:
    # docker: an empty member is the same as a member that is not set.
    given = {name: value for name, value in msgspec.to_builtins(config).items() if value}
    legacy = {**_ALWAYS, **_BEFORE_1_50} if version < (1, 50) else _ALWAYS
    return dict(sorted({**legacy, **given}.items()))


def _directories_view(directories: Sequence[str]) -> dict[str, str] | None:
    """Where the layers are, under the names that Docker's driver has for them. Nothing is merged until a container starts."""
    if not directories:
        return None
    below = {"LowerDir": ":".join(directories[1:])} if len(directories) > 1 else {}
    return {**below, "UpperDir": directories[0]}
