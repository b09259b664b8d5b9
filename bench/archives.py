"""What the rows feed to the engines: docker-save archives, written while their layers are made, and a build context."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from isal import isal_zlib

from support.images import MODIFIED_AT, file, pack

_GZIP_WBITS = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, as it is known to an image's config (`diff_id`) and, gzipped in the file `path`, to registries."""

    diff_id: str
    path: Path
    digest: str
    size_bytes: int


class LayerStream:
    """A file to write one layer's archive to: it goes into the docker-save archive, and gzipped into a file of its own."""

    def __init__(self, archive: io.BufferedWriter, path: Path) -> None:
        self._archive = archive
        self._path = path
        self._gzip = path.open("wb")
        self._compressor = isal_zlib.compressobj(level=2, wbits=_GZIP_WBITS)
        self._plain, self._packed = hashlib.sha256(), hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self._archive.write(data)
        self._plain.update(data)
        self.size_bytes += len(data)
        self._pack(self._compressor.compress(data))
        return len(data)

    def finish(self) -> Layer:
        self._pack(self._compressor.flush())
        size_bytes = self._gzip.tell()
        self._gzip.close()
        return Layer(f"sha256:{self._plain.hexdigest()}", self._path, f"sha256:{self._packed.hexdigest()}", size_bytes)

    def _pack(self, data: bytes) -> None:
        self._packed.update(data)
        self._gzip.write(data)


class ArchiveWriter:
    """Writes one docker-save archive in one pass, each layer into its place; the archive is whole when the `with` ends."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self.layers: list[Layer] = []
        self.size_bytes = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._file:
            if kind is not None:
                return
            config = image_config(self.layers)
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            paths = [f"layer-{number}/layer.tar" for number in range(len(self.layers))]
            manifest = [{"Config": config_name, "RepoTags": [self._name], "Layers": paths}]
            self._add(config_name, config)
            self._add("manifest.json", json.dumps(manifest).encode())
            self._file.write(bytes(1024))
            self.size_bytes = self._file.tell()

    @contextmanager
    def layer(self) -> Iterator[tarfile.TarFile]:
        """The archive of the next layer, to be filled. Its size is not known before, so its header is written last."""
        number = len(self.layers)
        header_at = self._file.tell()
        self._file.write(bytes(512))
        stream = LayerStream(self._file, self._path.with_name(f"{self._path.stem}-{number}.tar.gz"))
        with tarfile.open(fileobj=stream, mode="w|", bufsize=1 << 20, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]  # a writer
            yield tar
        self._file.write(bytes(-stream.size_bytes % 512))
        self._file.seek(header_at)
        self._file.write(regular(f"layer-{number}/layer.tar", stream.size_bytes).tobuf(tarfile.GNU_FORMAT))
        self._file.seek(0, io.SEEK_END)
        self.layers.append(stream.finish())

    def _add(self, name: str, data: bytes) -> None:
        self._file.write(regular(name, len(data)).tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))


def image_config(layers: Sequence[Layer]) -> bytes:
    config: dict[str, Any] = {
        "architecture": "amd64",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created_by": f"layer {number}"} for number in range(len(layers))],
    }
    return json.dumps(config, sort_keys=True).encode()


def regular(name: str, size_bytes: int, *, mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size_bytes, MODIFIED_AT, mode
    return info


def build_context() -> bytes:
    """Ten RUN steps on the small image."""
    lines = ["FROM busybox", *(f"RUN echo step {number} > /step-{number}" for number in range(10))]
    return pack([file("Dockerfile", "\n".join(lines) + "\n")])
