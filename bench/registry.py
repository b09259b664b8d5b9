"""A registry on loopback (Debian's docker-registry) for the rows that pull and push, and a publisher of images that lie on disk."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from bench.archives import Layer, image_config
from bench.install import ensure_installed

_CONFIG = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {directory}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextmanager
def registry(storage: Path | None = None) -> Iterator[str]:
    """The registry's `host:port`, for as long as it runs. It is empty, and its content goes with it, unless `storage` has it."""
    ensure_installed("docker-registry", "docker-registry")
    directory = Path(tempfile.mkdtemp(prefix="teul-bench-registry-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = directory / "config.yml"
    configuration.write_text(_CONFIG.format(directory=storage or directory / "data", port=port))
    process = subprocess.Popen(["docker-registry", "serve", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(directory)


def publish(address: str, name: str, layers: Sequence[Layer]) -> None:
    """Put an image of these layers into the registry, as `name`:1. spec: OCI distribution-spec, "Push"."""
    config = image_config(layers)
    connection = http.client.HTTPConnection(address)
    try:
        for layer in layers:
            with layer.path.open("rb") as source:
                _upload(connection, name, layer.digest, source, layer.size_bytes)
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        _upload(connection, name, digest, BytesIO(config), len(config))
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA_TYPE}.distribution.manifest.v2+json",
            "config": {"mediaType": f"{_MEDIA_TYPE}.container.image.v1+json", "size": len(config), "digest": digest},
            "layers": [
                {"mediaType": f"{_MEDIA_TYPE}.image.rootfs.diff.tar.gzip", "size": layer.size_bytes, "digest": layer.digest}
                for layer in layers
            ],
        }
        headers = {"Content-Type": str(manifest["mediaType"])}
        _ask(connection, "PUT", f"/v2/{name}/manifests/1", BytesIO(json.dumps(manifest).encode()), headers)
    finally:
        connection.close()


_MEDIA_TYPE = "application/vnd.docker"


def _upload(connection: http.client.HTTPConnection, name: str, digest: str, source: BinaryIO, size_bytes: int) -> None:
    location = _ask(connection, "POST", f"/v2/{name}/blobs/uploads/", None, {"Content-Length": "0"})
    _ask(connection, "PUT", f"{location}&digest={digest}", source, {"Content-Length": str(size_bytes)})


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: BinaryIO | None, headers: dict[str, str]) -> str:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status not in {201, 202}:
        raise RuntimeError(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
    return str(answer.headers["Location"])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("docker-registry does not start")
