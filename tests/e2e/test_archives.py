"""Image archives between engines and tools: what Teul saves others read, and what they write Teul loads, with equal digests."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.needs import needs

pytestmark = needs("skopeo")

NAME = "judge/layers:1"


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def digest_of(engine: DockerHost, name: str) -> str:
    return engine.must("image", "inspect", "--format", "{{.Id}}", name)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_skopeo_reads_what_was_saved(engine: DockerHost, tmp_path: Path, compression: str) -> None:
    engine.must("load", stdin=images.layered().oci_archive(compression))
    saved = tmp_path / "saved.tar"
    engine.must("save", "-o", str(saved), NAME)
    expected = digest_of(engine, NAME)
    assert json.loads(skopeo("inspect", f"oci-archive:{saved}"))["Digest"] == expected
    skopeo("copy", "-q", "--preserve-digests", f"oci-archive:{saved}", f"oci:{tmp_path}/layout:1")
    config = json.loads(skopeo("inspect", "--config", f"docker-archive:{saved}"))
    assert config["rootfs"]["diff_ids"] == json.loads(engine.must("image", "inspect", "--format", "{{json .RootFS.Layers}}", NAME))
    engine.must("rmi", "-f", NAME)
    engine.must("load", "-i", str(saved))
    assert digest_of(engine, NAME) == expected


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_what_skopeo_writes_is_loaded(engine: DockerHost, tmp_path: Path, form: str) -> None:
    source = tmp_path / "source.tar"
    source.write_bytes(images.layered().oci_archive("gzip"))
    written = tmp_path / "written.tar"
    skopeo("copy", "-q", f"oci-archive:{source}", f"{form}:{written}:docker.io/judge/copied:1")
    engine.must("load", "-i", str(written))
    assert engine.must("run", "--rm", "--user", "root", "judge/copied:1", "cat", "/data/kept").splitlines()[-1] == "kept"
    engine.must("rmi", "judge/copied:1")


@needs("dockerd")
def test_a_dockerd_loads_what_was_saved_and_the_reverse(engine: DockerHost, tmp_path: Path) -> None:
    """Debian's, which reads docker save's `manifest.json` alone; and Teul reads its archives."""
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    engine.docker("load", stdin=images.layered().docker_archive())
    engine.must("save", "-o", str(ours), NAME, "busybox")
    with Dockerd() as dockerd:
        dockerd.must("load", "-i", str(ours))
        assert dockerd.must("image", "inspect", "--format", "{{.Id}}", NAME) == images.layered().config_id
        assert dockerd.must("run", "--rm", "--user", "root", NAME, "cat", "/data/kept").splitlines()[-1] == "kept"
        dockerd.must("save", "-o", str(theirs), NAME)
    engine.must("rmi", "-f", NAME)
    engine.must("load", "-i", str(theirs))
    assert digest_of(engine, images.layered().config_id) == digest_of(engine, NAME)


def test_one_platform_of_an_index_is_saved(engine: DockerHost, tmp_path: Path) -> None:
    archive, digest = images.index_archive("judge/multi:1", {"amd64": images.busybox(), "arm64": images.layered()})
    engine.must("load", stdin=archive)
    assert digest_of(engine, "judge/multi:1") == digest
    whole, one = tmp_path / "whole.tar", tmp_path / "one.tar"
    engine.must("save", "-o", str(whole), "judge/multi:1")
    engine.must("save", "--platform", "linux/arm64", "-o", str(one), "judge/multi:1")
    targets = [_index(archive)["manifests"][0] for archive in (whole, one)]
    assert targets[0]["digest"] == digest_of(engine, "judge/multi:1")
    assert targets[1]["platform"]["architecture"] == "arm64"
    assert one.stat().st_size < whole.stat().st_size
    refused = engine.docker("save", "--platform", "linux/riscv64", "-o", str(tmp_path / "none.tar"), "judge/multi:1")
    assert refused.exit_code == 1
    assert "does not match the specified platform" in refused.stderr
    engine.must("rmi", "judge/multi:1")
    engine.must("load", "-i", str(one))
    assert digest_of(engine, "judge/multi:1") == targets[1]["digest"]
    engine.must("rmi", "judge/multi:1")


def _index(archive: Path) -> Any:
    with tarfile.open(archive) as tar:
        file = tar.extractfile("index.json")
        assert file is not None
        return json.load(file)
