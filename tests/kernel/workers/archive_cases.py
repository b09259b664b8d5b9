"""Archives for the unpacking tests: layers written with tarfile, which is not what reads them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterable
from typing import Any

MODIFIED_AT = 1_600_000_000


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A file of root's, 0644, unless `fields` say otherwise."""
    info = tarfile.TarInfo(name)
    info.mtime = MODIFIED_AT
    for key, value in fields.items():
        setattr(info, key, value)
    info.size = len(data)
    return info, data


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def device(name: str, kind: bytes, major: int, minor: int, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, devmajor=major, devminor=minor, **fields)


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config(*layers: bytes, **fields: Any) -> bytes:
    """The config of an image of uncompressed `layers`."""
    rootfs = {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **fields}).encode()


def saved(files: dict[str, bytes], manifest: Any) -> bytes:
    """A docker-save archive of any files."""
    return archive(*(member(name, data) for name, data in files.items()), member("manifest.json", json.dumps(manifest).encode()))


def saved_image(*layers: bytes, tags: Iterable[str] = ("test/image:latest",), **fields: Any) -> bytes:
    """An honest one, in the old layout."""
    document = config(*layers, **fields)
    files = {f"{index}/layer.tar": layer for index, layer in enumerate(layers)}
    name = digest(document).removeprefix("sha256:") + ".json"
    return saved({**files, name: document}, [{"Config": name, "RepoTags": list(tags), "Layers": list(files)}])


async def stream(data: bytes, chunk_bytes: int = 1 << 16) -> AsyncIterator[bytes]:
    for start in range(0, len(data), chunk_bytes):
        yield data[start : start + chunk_bytes]
