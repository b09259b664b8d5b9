"""Images for the judges, made of Debian's busybox-static: the same bytes, hence the same image ids, every time.

An image is described as data (layers of entries plus a config) and can be written as a docker-save archive or as an OCI layout,
plain, gzip or zstd. Nothing is downloaded.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

BUSYBOX = Path("/bin/busybox")
_OCI = "application/vnd.oci.image.{}"
MODIFIED_AT = 1_704_164_645
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a layer: `kind` is one of tarfile's type bytes; `data` for files, `target` for links."""

    name: str
    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    target: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, str] = field(default_factory=dict)


def directory(name: str, mode: int = 0o755, **options: Any) -> Entry:
    return Entry(name, kind=tarfile.DIRTYPE, mode=mode, **options)


def file(name: str, text: str | bytes, mode: int = 0o644, **options: Any) -> Entry:
    return Entry(name, data=text.encode() if isinstance(text, str) else text, mode=mode, **options)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, kind=tarfile.SYMTYPE, target=target, mode=0o777)


def hard_link(name: str, target: str, mode: int = 0o755) -> Entry:
    # docker: the mode of a hard link's header is applied to what it links to, so it should be the same.
    return Entry(name, kind=tarfile.LNKTYPE, target=target, mode=mode)


def pack(entries: Iterable[Entry]) -> bytes:
    """A tar archive of `entries` in their order; the same entries give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.uid, info.gid = entry.kind, entry.mode, entry.uid, entry.gid
            info.linkname, info.size, info.mtime = entry.target, len(entry.data), MODIFIED_AT
            info.devmajor, info.devminor = entry.device
            info.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in entry.xattrs.items()}
            archive.addfile(info, io.BytesIO(entry.data))
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Image:
    """A runnable image. `config` is the config's "config" member, in Docker's spelling."""

    names: tuple[str, ...]
    layers: tuple[bytes, ...]
    config: dict[str, Any]
    created: str = "2024-01-02T03:04:05Z"

    @property
    def image_config(self) -> bytes:
        document = {
            "architecture": "amd64",
            "config": self.config,
            "created": self.created,
            "history": [
                {"created": self.created, "created_by": f"/bin/sh -c #(nop) ADD layer {number}"} for number, _ in enumerate(self.layers, 1)
            ],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in self.layers]},
        }
        return json.dumps(document, sort_keys=True).encode()

    @property
    def config_id(self) -> str:
        """What the image's id was before Docker 29, and is for a dockerd without containerd's image store."""
        return _digest(self.image_config)

    @property
    def image_id(self) -> str:
        """The digest of the manifest that an image gets which comes without one, as in a `docker_archive`."""
        media_type = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{media_type}.manifest.v1+json",
            "config": {"mediaType": f"{media_type}.config.v1+json", "digest": self.config_id, "size": len(self.image_config)},
            "layers": [{"mediaType": f"{media_type}.layer.v1.tar", "digest": _digest(layer), "size": len(layer)} for layer in self.layers],
        }
        return _digest(json.dumps(manifest, separators=(",", ":")).encode())

    def docker_archive(self) -> bytes:
        """What `docker save` writes (with manifest.json) and every version of `docker load` reads."""
        config_name = f"{self.config_id.removeprefix('sha256:')}.json"
        layer_names = [f"{_digest(layer).removeprefix('sha256:')}/layer.tar" for layer in self.layers]
        manifest = [{"Config": config_name, "RepoTags": list(self.names), "Layers": layer_names}]
        members = [file(config_name, self.image_config)]
        for name, layer in zip(layer_names, self.layers, strict=True):
            members += [directory(name.split("/")[0]), file(name, layer)]
        return pack([*members, file("manifest.json", json.dumps(manifest))])

    def oci_archive(self, compression: str = "gzip") -> bytes:
        """An OCI image layout in a tar: layers "none", "gzip", "zstd", or as no media type says."""
        suffix = {"none": "", "gzip": "+gzip", "zstd": "+zstd", "xz": "", "bzip2": ""}[compression]
        blobs: dict[str, bytes] = {}

        def store(media_type: str, data: bytes) -> dict[str, Any]:
            blobs[_digest(data)] = data
            return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": _digest(data), "size": len(data)}

        layers = [store(f"layer.v1.tar{suffix}", compress(layer, compression)) for layer in self.layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": store("config.v1+json", self.image_config),
            "layers": layers,
        }
        manifest_blob = json.dumps(manifest, sort_keys=True).encode()
        descriptor = store("manifest.v1+json", manifest_blob)
        manifests = [
            {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name.partition(":")[2], "io.containerd.image.name": name}}
            for name in self.names
        ]
        members = [directory("blobs"), directory("blobs/sha256")]
        members += [file(f"blobs/sha256/{digest.removeprefix('sha256:')}", data) for digest, data in sorted(blobs.items())]
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests or [descriptor]}
        return pack([*members, file("index.json", json.dumps(index)), file("oci-layout", '{"imageLayoutVersion":"1.0.0"}')])


def index_archive(name: str, platforms: dict[str, Image]) -> tuple[bytes, str]:
    """An OCI layout with an index called `name` over images for Linux on several architectures, and the digest of the index.

    The first of them has an attestation. Every layer is gzipped.
    """
    blobs: dict[str, bytes] = {}

    def store(media_type: str, data: bytes) -> dict[str, Any]:
        blobs[_digest(data)] = data
        return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}

    def manifest(config: bytes, layers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        document = {
            "schemaVersion": 2,
            "mediaType": _OCI.format("manifest.v1+json"),
            "config": store(_OCI.format("config.v1+json"), config),
            "layers": layers,
        }
        return store(_OCI.format("manifest.v1+json"), json.dumps(document).encode()) | more

    children = []
    for architecture, image in platforms.items():
        config = json.dumps(json.loads(image.image_config) | {"architecture": architecture}).encode()
        layers = [store(_OCI.format("layer.v1.tar+gzip"), compress(layer, "gzip")) for layer in image.layers]
        children.append(manifest(config, layers, platform={"os": "linux", "architecture": architecture}))
    statement = b'{"_type": "https://in-toto.io/Statement/v0.1"}'
    config = json.dumps(
        {"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": [_digest(statement)]}}
    ).encode()
    about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": children[0]["digest"]}
    unknown = {"os": "unknown", "architecture": "unknown"}
    children.append(manifest(config, [store("application/vnd.in-toto+json", statement)], platform=unknown, annotations=about))
    index = {"schemaVersion": 2, "mediaType": _OCI.format("index.v1+json"), "manifests": children}
    target = store(_OCI.format("index.v1+json"), json.dumps(index).encode())
    names = {"org.opencontainers.image.ref.name": name.rpartition(":")[2], "io.containerd.image.name": name}
    members = [directory("blobs"), directory("blobs/sha256")]
    members += [file(f"blobs/sha256/{digest.removeprefix('sha256:')}", data) for digest, data in sorted(blobs.items())]
    outer = {"schemaVersion": 2, "manifests": [target | {"annotations": names}]}
    members += [file("index.json", json.dumps(outer)), file("oci-layout", '{"imageLayoutVersion":"1.0.0"}')]
    return pack(members), target["digest"]


def compress(data: bytes, compression: str) -> bytes:
    match compression:
        case "none":
            return data
        case "gzip":
            return gzip.compress(data, compresslevel=1, mtime=0)
        case "zstd":
            return zstandard.ZstdCompressor(level=1).compress(data)
        case "xz" | "bzip2":
            return lzma.compress(data, preset=0) if compression == "xz" else bz2.compress(data, 1)
    raise ValueError(compression)


def busybox_entries() -> list[Entry]:
    """A small root file system: busybox with its applets as hard links, and the few files that programs look for."""
    applets = subprocess.run([str(BUSYBOX), "--list"], check=True, capture_output=True, text=True).stdout.split()
    entries = [directory(name) for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var")]
    entries += [directory("tmp", 0o1777), file("bin/busybox", BUSYBOX.read_bytes(), 0o755)]
    entries += [hard_link(f"bin/{applet}", "bin/busybox") for applet in applets if applet != "busybox"]
    return [
        *entries,
        file(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\njudge:x:1234:2345:Judge:/home/judge:/bin/sh\n",
        ),
        file("etc/group", "root:x:0:\ndaemon:x:1:\nvideo:x:44:judge\njudges:x:2345:\nextra:x:3456:judge\n"),
        directory("home/judge", uid=1234, gid=2345),
        file("etc/not-executable", "just text\n", 0o644),
        file("bin/script-without-interpreter", "#!/no/such/interpreter\n", 0o755),
    ]


def busybox() -> Image:
    """`busybox:latest`: one layer, a shell as its command, as the well-known image of that name."""
    return Image(("busybox:latest",), (pack(busybox_entries()),), {"Cmd": ["sh"], "Env": [PATH]})


def layered() -> Image:
    """`judge/layers:1`: three layers with a whiteout, an opaque directory, a hard link, a device; and a full config."""
    middle = [
        directory("data"),
        file("data/gone", "removed by the next layer\n"),
        file("data/kept", "kept\n"),
        directory("opaque"),
        file("opaque/hidden", "hidden by the next layer\n"),
        hard_link("data/also-kept", "data/kept", 0o644),
        Entry("data/null", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
        file("data/owned", "of judge\n", uid=1234, gid=2345, mode=0o640),
        file("bin/entry", '#!/bin/sh\necho "entry: $*"\nexec "$@"\n', 0o755),
    ]
    top = [
        directory("data"),
        file("data/.wh.gone", ""),
        directory("opaque"),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/shown", "shown\n"),
    ]
    config = {
        "Cmd": ["id"],
        "Entrypoint": ["/bin/entry"],
        "Env": [PATH, "GREETING=hello", "EMPTY="],
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"org.example.judge": "yes"},
        "StopSignal": "SIGQUIT",
        "User": "judge",
        "WorkingDir": "/data",
    }
    return Image(("judge/layers:1",), (pack(busybox_entries()), pack(middle), pack(top)), config, created="2024-02-03T04:05:06Z")


def rootfs() -> bytes:
    """A plain root file system for `docker import`."""
    return pack(busybox_entries())


def save(directory_path: Path) -> dict[str, Path]:
    """Write every archive that the judges use below `directory_path`; names as keys."""
    archives = {
        "busybox.tar": busybox().docker_archive(),
        "layers.tar": layered().docker_archive(),
        "layers-oci.tar": layered().oci_archive("gzip"),
        "layers-oci-zstd.tar": layered().oci_archive("zstd"),
        "rootfs.tar": rootfs(),
        "not-an-image.tar": pack([file("readme", "nothing to load here\n")]),
        "truncated.tar": busybox().docker_archive()[:100_000],
    }
    paths: dict[str, Path] = {}
    for name, data in archives.items():
        paths[name] = directory_path / name
        paths[name].write_bytes(data)
    return paths


def multi_platform_archive(name: str, images_by_architecture: dict[str, Image]) -> bytes:
    """An OCI layout of one image called `name`, an index that leads to each of the images."""
    members: dict[str, Entry] = {}
    children = []
    for architecture, image in images_by_architecture.items():
        document = json.loads(image.image_config) | {"architecture": architecture}
        config = json.dumps(document, sort_keys=True).encode()
        layers = [compress(layer, "gzip") for layer in image.layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _described("config.v1+json", config),
            "layers": [_described("layer.v1.tar+gzip", layer) for layer in layers],
        }
        blob = json.dumps(manifest, sort_keys=True).encode()
        children.append({**_described("manifest.v1+json", blob), "platform": {"os": "linux", "architecture": architecture}})
        members |= {_digest(data): file(_blob_path(data), data) for data in (*layers, config, blob)}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": children}
    whole = json.dumps(index, sort_keys=True).encode()
    members[_digest(whole)] = file(_blob_path(whole), whole)
    top = {**_described("index.v1+json", whole), "annotations": {"io.containerd.image.name": name}}
    entry = json.dumps({"schemaVersion": 2, "manifests": [top]})
    return pack([*members.values(), file("index.json", entry), file("oci-layout", '{"imageLayoutVersion":"1.0.0"}')])


def _described(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": _digest(data), "size": len(data)}


def _blob_path(data: bytes) -> str:
    return f"blobs/sha256/{_digest(data).removeprefix('sha256:')}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
