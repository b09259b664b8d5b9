"""Images that others have made in their own ways, beside a real dockerd."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]

PROGRAM = images.pack([images.directory("bin"), images.file("bin/sh", images.BUSYBOX.read_bytes(), 0o755)])


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[DockerHost, DockerHost]]:
    with Dockerd() as dockerd, Engine() as engine:
        yield dockerd, engine


def archive(name: str, *layers: bytes, stored: tuple[bytes, ...] = (), **members: Any) -> bytes:
    """What `docker save` would write of an image whose config has `members`; `stored` are the layers as they stand in it."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}, **members}
    paths = [f"{number}/layer.tar" for number, _ in enumerate(layers)]
    files = [images.file(path, layer) for path, layer in zip(paths, stored or layers, strict=True)]
    manifest = [{"Config": "config.json", "RepoTags": [f"{name}:latest"], "Layers": paths}]
    return images.pack([*files, images.file("config.json", json.dumps(config)), images.file("manifest.json", json.dumps(manifest))])


def _read(members: tarfile.TarFile, name: str) -> bytes:
    file = members.extractfile(name)
    assert file is not None
    return file.read()


def test_who_creates_from_an_image_for_another_platform_is_warned(hosts: tuple[DockerHost, DockerHost]) -> None:
    said = []
    for host in hosts:
        host.load(archive("foreign", PROGRAM, architecture="arm64"))
        done = host.docker("create", "foreign", "sh")
        assert done.exit_code == 0
        said.append(done.stderr.strip())
        assert host.docker("create", "--platform", "linux/arm64", "foreign", "sh").stderr == ""
    # Today's Docker says which amd64 it has found.
    found = re.search(r"detected host platform \(linux/amd64/v[1-4]\)", said[1])
    assert found
    assert said[1].replace(found[0], "detected host platform (linux/amd64)") == said[0]


def test_an_image_with_more_history_than_layers_is_refused(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        done = host.docker("load", stdin=archive("storied", PROGRAM, history=[{"created_by": "one"}, {"created_by": "two"}]))
        assert (done.exit_code, done.stderr.strip()) == (1, "too many non-empty layers in History section")
        empty = {"created_by": "two", "empty_layer": True}
        host.load(archive("storied", PROGRAM, history=[{"created_by": "one"}, empty]))
        assert len(host.must("history", "-q", "storied").splitlines()) == 2


def test_the_keys_of_a_config_are_matched_in_any_case(hosts: tuple[DockerHost, DockerHost]) -> None:
    config = {"cmd": ["sh", "-c", "echo first"], "CMD": ["sh", "-c", "echo $Word"], "ENV": ["Word=last"], "labels": {"A": "1", "a": "2"}}
    for host in hosts:
        host.load(archive("shouting", PROGRAM, Config=config))
        assert host.must("run", "--rm", "shouting") == "last"
        assert host.must("inspect", "-f", "{{json .Config.Labels}}", "shouting") == '{"A":"1","a":"2"}'


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress, gzip.compress], ids=["bzip2", "xz", "gzip"])
def test_layers_are_taken_however_they_are_compressed(
    hosts: tuple[DockerHost, DockerHost], compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    upper = images.pack([images.file("word", "upper\n")])
    data = archive("packed", PROGRAM, upper, stored=(compress(PROGRAM), compress(upper)))
    for host in hosts:
        host.load(data)
        assert host.must("run", "--rm", "packed", "sh", "-c", "read word </word; echo $word") == "upper"
        host.must("save", "-o", str(tmp_path / "saved.tar"), "packed")
        host.must("rmi", "packed")
        with tarfile.open(tmp_path / "saved.tar") as saved:
            names = json.loads(_read(saved, "manifest.json"))[0]["Layers"]
            heads = [_read(saved, name)[:4] for name in names]
        # Every reader of archives knows gzip.
        assert not any(head.startswith((b"BZh", b"\xfd7zX")) for head in heads)
        host.must("load", "-i", str(tmp_path / "saved.tar"))
        assert host.must("run", "--rm", "packed", "sh", "-c", "read word </word; echo $word") == "upper"
        host.must("rmi", "packed")
