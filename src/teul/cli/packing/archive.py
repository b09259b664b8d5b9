"""A tree of files to an image archive: one layer, a config and a manifest, as OCI layout and docker-save archive in one.

Everything that could differ between two runs is fixed: order, owners, times. So the same files give the same digests.
Source: OCI image-spec, image-layout.md and config.md; `manifest.json` is what docker's own loader reads.
"""

from __future__ import annotations

import stat
import tarfile
from dataclasses import dataclass
from hashlib import sha256

from teul.cli.errors import CliError
from teul.wire.jsontext import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    from teul.cli.packing.tree import Entry, Tree

_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """`names` are complete references; `epoch_seconds` is the time of every file, `created_seconds` that of the image; `process` is the
    config's `config`."""

    names: tuple[str, ...]
    architecture: str
    process: dict[str, Any]
    created_by: str
    epoch_seconds: int
    created_seconds: int


class _HashingFile:
    """The file that tarfile writes to: passes the bytes on and knows their digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


def write_layer(tree: Tree, file: BinaryIO, epoch_seconds: int) -> tuple[str, int]:
    """Write the layer of `tree` to `file`; returns its digest and size. Raises `CliError` for a file that changes or cannot be read."""
    tree.complete()
    output = _HashingFile(file)
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]  # write() is enough
        for path in sorted(tree.entries):
            _add_entry(archive, path, tree.entries[path], epoch_seconds)
    return output.digest, output.size_bytes


def _add_entry(archive: tarfile.TarFile, path: str, entry: Entry, epoch_seconds: int) -> None:
    info = _member(path.lstrip("/"), entry.mode, epoch_seconds)
    if entry.kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    elif entry.kind == stat.S_IFLNK:
        info.type, info.linkname = tarfile.SYMTYPE, entry.target
        archive.addfile(info)
    elif not entry.host_path:
        from io import BytesIO

        info.size = len(entry.content)
        archive.addfile(info, BytesIO(entry.content))
    else:
        try:
            with open(entry.host_path, "rb") as file:
                info.size = file.seek(0, 2)
                file.seek(0)
                archive.addfile(info, file)
        except OSError as error:
            raise CliError(f"cannot pack {path}: {error.strerror or error}") from None


def _member(name: str, mode: int, epoch_seconds: int, size_bytes: int = 0) -> tarfile.TarInfo:
    """A member that belongs to root and was changed at `epoch_seconds`."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.size = mode, epoch_seconds, size_bytes
    return info


def archive_pieces(layer: BinaryIO, digest: str, size_bytes: int, settings: ImageSettings) -> Iterator[bytes]:
    """The whole archive in pieces; the layer comes last and is read from `layer`. Only the documents are held in memory."""
    config = encode(_config(digest, settings))
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _descriptor(_CONFIG_TYPE, config),
            "layers": [{"mediaType": _LAYER_TYPE, "digest": digest, "size": size_bytes}],
        }
    )
    documents = {
        "oci-layout": encode({"imageLayoutVersion": "1.0.0"}),
        "index.json": encode(_index(manifest, settings)),
        "manifest.json": encode([{"Config": _blob(_digest(config)), "RepoTags": list(settings.names), "Layers": [_blob(digest)]}]),
        _blob(_digest(config)): config,
        _blob(_digest(manifest)): manifest,
    }
    for directory in ("blobs", "blobs/sha256"):
        info = _member(directory, 0o755, settings.epoch_seconds)
        info.type = tarfile.DIRTYPE
        yield info.tobuf()
    for name, content in documents.items():
        yield _member(name, 0o644, settings.epoch_seconds, len(content)).tobuf() + content + _padding(len(content))
    yield _member(_blob(digest), 0o644, settings.epoch_seconds, size_bytes).tobuf()
    layer.seek(0)
    while data := layer.read(_PIECE_BYTES):
        yield data
    yield _padding(size_bytes) + b"\0" * (2 * tarfile.BLOCKSIZE)


def _padding(size_bytes: int) -> bytes:
    return b"\0" * (-size_bytes % tarfile.BLOCKSIZE)


def _digest(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _config(layer_digest: str, settings: ImageSettings) -> dict[str, Any]:
    from datetime import UTC, datetime

    created = datetime.fromtimestamp(settings.created_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "created": created,
        "architecture": settings.architecture,
        "os": "linux",
        "config": settings.process,
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        "history": [{"created": created, "created_by": settings.created_by}],
    }


def _index(manifest: bytes, settings: ImageSettings) -> dict[str, Any]:
    """One descriptor per name: that is how a layout says what its images are called."""
    base = _descriptor(_MANIFEST_TYPE, manifest)
    base["platform"] = {"architecture": settings.architecture, "os": "linux"}
    manifests = [
        {**base, "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}}
        for name in settings.names
    ]
    return {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests or [base]}
