"""A large image to load and pull: as many files and bytes as a usual application image, the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

from support.images import MODIFIED_AT, file, pack

LAYERS = 6
FILES = 19_000
TOTAL_BYTES = 560_000_000
NAME = "bench/large:1"


def write_large_image(path: Path, *, scale: float = 1.0) -> None:
    """Write a docker-save archive with `LAYERS` layers; `scale` shrinks files and bytes alike."""
    dice = random.Random(20_240_102)
    # Half of every block is noise and half is text, as programs and libraries compress to about half of their size.
    noise = dice.randbytes(1 << 20)
    layers: list[tuple[str, Path]] = []
    for number in range(LAYERS):
        layer = path.with_name(f"layer-{number}.tar")
        _write_layer(
            layer, number, files=round(FILES * scale / LAYERS), size_bytes=round(TOTAL_BYTES * scale / LAYERS), dice=dice, noise=noise
        )
        layers.append((_digest_of(layer), layer))
    config = {
        "architecture": "amd64",
        "config": {"Cmd": ["/bin/true"]},
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest, _ in layers]},
        "history": [{"created_by": f"layer {number}"} for number in range(LAYERS)],
    }
    config_data = json.dumps(config, sort_keys=True).encode()
    config_name = f"{hashlib.sha256(config_data).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [NAME], "Layers": [f"{digest}/layer.tar" for digest, _ in layers]}]
    with tarfile.open(path, "w") as archive:
        for digest, layer in layers:
            info = tarfile.TarInfo(f"{digest}/layer.tar")
            info.size, info.mtime = layer.stat().st_size, MODIFIED_AT
            with layer.open("rb") as source:
                archive.addfile(info, source)
            layer.unlink()
        _append(archive, config_name, config_data)
        _append(archive, "manifest.json", json.dumps(manifest).encode())


def build_context() -> bytes:
    """Ten RUN steps on the small image."""
    lines = ["FROM busybox", *(f"RUN echo step {number} > /step-{number}" for number in range(10))]
    return pack([file("Dockerfile", "\n".join(lines) + "\n")])


def _write_layer(path: Path, number: int, *, files: int, size_bytes: int, dice: random.Random, noise: bytes) -> None:
    weights = [dice.lognormvariate(0, 1.6) for _ in range(files)]
    total = sum(weights)
    with tarfile.open(path, "w") as archive:
        for index, weight in enumerate(weights):
            if index % 50 == 0:
                archive.addfile(_header(f"srv/layer{number}/part{index // 50}", 0, kind=tarfile.DIRTYPE))
            data = _content(round(size_bytes * weight / total), dice.randrange(len(noise)), noise, f"{number}/{index}")
            _append(archive, f"srv/layer{number}/part{index // 50}/file{index}.bin", data)


def _content(size_bytes: int, offset: int, noise: bytes, name: str) -> bytes:
    block = noise[offset : offset + 4096] + f"line of {name}\n".encode() * 256
    return (block * (size_bytes // len(block) + 1))[:size_bytes]


def _header(name: str, size_bytes: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime, info.mode = kind, size_bytes, MODIFIED_AT, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info


def _append(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    archive.addfile(_header(name, len(data)), io.BytesIO(data))


def _digest_of(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
