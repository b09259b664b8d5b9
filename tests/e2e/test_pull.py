"""Pulling with the docker command and docker-py, from Debian's docker-registry and from registries that lie."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from e2e.conftest import with_images
from support import images
from support.certificates import Authority
from support.docker_host import DockerHost
from support.docker_registry import docker_registry
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.registry import PASSWORD, USERNAME, FakeRegistry, serving, stock

pytestmark = needs("docker_registry", "skopeo")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry") / "r") as host:
        yield host


def publish(directory: Path, host: str, image: images.Image, name: str, *, compression: str = "gzip", credentials: str = "") -> str:
    """Have skopeo copy the image into a registry; the digest of its manifest there."""
    archive = directory / "image.tar"
    archive.write_bytes(image.oci_archive(compression))
    options = ["--dest-creds", credentials] if credentials else []
    options += ["--preserve-digests"] if compression in ("xz", "bzip2") else []  # or they would become gzip
    target = f"docker://{host}/{name}"
    command = ["skopeo", "--insecure-policy", "copy", "-q", *options, "--dest-tls-verify=false", f"oci-archive:{archive}", target]
    subprocess.run(command, check=True, capture_output=True)
    options = ["--creds", credentials] if credentials else []
    inspect = ["skopeo", "inspect", *options, "--tls-verify=false", "--format", "{{.Digest}}", target]
    return subprocess.run(inspect, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none", "xz", "bzip2"])
def test_an_image_is_pulled_and_runs(engine: DockerHost, registry: str, tmp_path: Path, compression: str) -> None:
    name = f"judge/pulled-{compression}"
    digest = publish(tmp_path, registry, images.layered(), f"{name}:1", compression=compression)
    engine.docker("rmi", "-f", "judge/layers:1")
    told = engine.must("pull", f"{registry}/{name}:1").splitlines()
    assert told[0] == f"1: Pulling from {name}"
    assert sorted({line.split(": ", 1)[1] for line in told[1:-3]}) == [
        "Download complete",
        "Pull complete",
        "Pulling fs layer",
        "Verifying Checksum",
    ]
    assert told[-3:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {registry}/{name}:1", f"{registry}/{name}:1"]
    assert engine.must("run", "--rm", "--user", "root", f"{registry}/{name}:1", "ls", "/data").splitlines()[-4:] == [
        "also-kept",
        "kept",
        "null",
        "owned",
    ]
    [document] = json.loads(engine.must("image", "inspect", f"{registry}/{name}:1"))
    assert document["Id"] == digest
    assert document["RepoDigests"] == [f"{registry}/{name}@{digest}"]
    assert document["Descriptor"]["digest"] == digest
    again = engine.must("pull", f"{registry}/{name}:1").splitlines()
    assert again[1:] == [f"Digest: {digest}", f"Status: Image is up to date for {registry}/{name}:1", f"{registry}/{name}:1"]
    engine.must("rmi", f"{registry}/{name}:1")


def test_an_image_is_pulled_by_its_digest(engine: DockerHost, registry: str, tmp_path: Path) -> None:
    digest = publish(tmp_path, registry, images.busybox(), "judge/by-digest:1")
    name = f"{registry}/judge/by-digest@{digest}"
    assert f"Digest: {digest}" in engine.must("pull", name)
    assert engine.must("run", "--rm", name, "echo", "it runs") == "it runs"
    assert engine.must("images", "--digests", "--format", "{{.Tag}} {{.Digest}}", f"{registry}/judge/by-digest") == f"<none> {digest}"
    engine.must("rmi", name)


def test_all_tags_are_pulled(engine: DockerHost, registry: str, tmp_path: Path) -> None:
    for tag in ("1", "2"):
        publish(tmp_path, registry, images.busybox(), f"judge/tags:{tag}")
    engine.must("pull", "-a", f"{registry}/judge/tags")
    assert sorted(engine.must("images", "--format", "{{.Tag}}", f"{registry}/judge/tags").split()) == ["1", "2"]
    engine.must("rmi", f"{registry}/judge/tags:1", f"{registry}/judge/tags:2")


def test_what_the_registry_does_not_have_is_told_in_dockers_words(engine: DockerHost, registry: str, tmp_path: Path) -> None:
    publish(tmp_path, registry, images.busybox(), "judge/there:1")
    missing = engine.docker("pull", f"{registry}/judge/there:2")
    assert missing.exit_code == 1
    assert f"manifest for {registry}/judge/there:2 not found: manifest unknown" in missing.stderr
    unknown = engine.docker("run", "--rm", f"{registry}/judge/nowhere")
    assert unknown.exit_code == 125
    assert "not found" in unknown.stderr


def test_a_private_registry_wants_credentials(engine: DockerHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with docker_registry(tmp_path / "r", auth="basic") as host:
        publish(tmp_path, host, images.busybox(), "judge/private:1", credentials=f"{USERNAME}:{PASSWORD}")
        refused = engine.docker("pull", f"{host}/judge/private:1")
        assert refused.exit_code == 1
        assert "no basic auth credentials" in refused.stderr
        config = tmp_path / "config"
        config.mkdir()
        auth = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        (config / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
        engine.must("--config", str(config), "pull", f"{host}/judge/private:1")
        engine.must("rmi", f"{host}/judge/private:1")


def test_a_registry_with_tokens(engine: DockerHost, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "r", auth="token") as host:
        client = docker.DockerClient(base_url=f"unix://{engine.socket_path}", version="auto", timeout=60)
        try:
            publish(tmp_path, host, images.busybox(), "judge/token:1", credentials=f"{USERNAME}:{PASSWORD}")
            with pytest.raises(docker.errors.APIError):
                client.images.pull(f"{host}/judge/token", tag="1", auth_config={"username": USERNAME, "password": "wrong"})
            pulled = client.images.pull(f"{host}/judge/token", tag="1", auth_config={"username": USERNAME, "password": PASSWORD})
            assert pulled.tags == [f"{host}/judge/token:1"]
        finally:
            client.close()
        engine.must("rmi", f"{host}/judge/token:1")


@pytest.fixture
def lying(engine: DockerHost) -> Iterator[FakeRegistry]:
    with serving(FakeRegistry()) as registry:
        yield registry


def left_in(engine: DockerHost) -> dict[str, list[str]]:
    root = engine.root  # type: ignore[attr-defined] # this is Teul's own tree
    return {name: sorted(os.listdir(root / name)) for name in ("blobs/sha256", "snapshots", "tmp")}


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"wrong_digest": True}, r"verification failed"),
        ({"wrong_size": 100}, r"verification failed"),
        ({"endless": True}, r"verification failed"),
        ({"redirect_loop": True}, r"stopped after 10 redirects"),
        ({"always_unauthorized": True}, r"no basic auth credentials"),
        ({"error": (500, "text/html", b"<html>")}, r"500|unknown"),
    ],
    ids=["wrong digest", "wrong size", "endless body", "redirect loop", "401 for ever", "500 for ever"],
)
def test_a_registry_that_lies_gets_a_clear_error_and_leaves_nothing(
    engine: DockerHost, lying: FakeRegistry, lie: dict[str, object], message: str
) -> None:
    stock(lying, images.layered(), "judge/lies")
    before = left_in(engine)
    for name, value in lie.items():
        setattr(lying.behaviour, name, value)
    host = lying.host
    answer = engine.docker("pull", f"{host}/judge/lies:1", timeout_seconds=120)
    assert answer.exit_code == 1, answer
    assert re.search(message, answer.stderr), answer.stderr
    assert eventually(lambda: left_in(engine) == before, "nothing of it stays")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: bytes([*data[:-9], data[-9] ^ 1, *data[-8:]]),
        lambda data: data[:-20],
        lambda data: images.compress(bytes(10_240), "gzip").ljust(len(data), b"x")[: len(data)],
    ],
    ids=["a bit", "the end", "another file"],
)
def test_a_layer_that_is_not_what_it_should_be_is_refused(
    engine: DockerHost, lying: FakeRegistry, change: Callable[[bytes], bytes]
) -> None:
    """The config and the manifest are right."""
    top = stock(lying, images.layered(), "judge/layer")[-1]
    before = left_in(engine)
    lying.blobs["judge/layer"][top] = change(lying.blobs["judge/layer"][top])
    answer = engine.docker("pull", f"{lying.host}/judge/layer:1", timeout_seconds=120)
    assert answer.exit_code == 1, answer
    assert re.search("failed to register layer|filesystem layer verification failed", answer.stderr), answer.stderr
    assert eventually(lambda: left_in(engine) == before, "nothing of it stays")


def test_a_broken_line_goes_on_where_it_broke(engine: DockerHost, lying: FakeRegistry) -> None:
    [base, *_] = stock(lying, images.busybox(), "judge/broken")
    lying.behaviour.cuts = [100_000, 200_000]
    engine.must("pull", f"{lying.host}/judge/broken:1")
    ranges = [seen.headers.get("Range", "") for seen in lying.requests("GET", f"/blobs/{base}")]
    assert len([text for text in ranges if text.startswith("bytes=")]) >= 1, ranges
    engine.must("rmi", f"{lying.host}/judge/broken:1")


def test_two_pulls_of_one_layer_are_one_download(engine: DockerHost, lying: FakeRegistry) -> None:
    [layer] = stock(lying, images.busybox(), "judge/shared")
    host = lying.host
    stock(lying, images.busybox(), "judge/other")
    names = [f"{host}/judge/shared:1", f"{host}/judge/other:1"]
    answers: list[int] = []
    threads = [threading.Thread(target=lambda name=name: answers.append(engine.docker("pull", name).exit_code)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [0, 0]
    assert engine.must("inspect", "--format", "{{.Id}}", names[0]) == engine.must("inspect", "--format", "{{.Id}}", names[1])
    assert len(lying.requests("GET", f"/blobs/{layer}")) <= 2
    for name in names:
        assert engine.must("run", "--rm", name, "echo", "it runs") == "it runs"
    engine.must("rmi", *names)


def test_a_layer_that_waits_to_be_asked_for_again(engine: DockerHost, lying: FakeRegistry) -> None:
    stock(lying, images.layered(), "judge/broken")
    engine.docker("rmi", "-f", "judge/layers:1")
    lying.behaviour.cuts = [100_000] * 4  # an answer each: the config, which is shorter, and three layers
    told = engine.must("pull", f"{lying.host}/judge/broken:1")
    assert "Retrying in 1 second" in told
    assert engine.must("run", "--rm", f"{lying.host}/judge/broken:1", "echo", "it runs").endswith("it runs")
    engine.must("rmi", f"{lying.host}/judge/broken:1")


def test_a_pull_that_is_given_up_leaves_nothing(engine: DockerHost, lying: FakeRegistry) -> None:
    stock(lying, images.layered(), "judge/slow")
    before = left_in(engine)
    lying.behaviour.redirect_blobs_to = ""
    lying.behaviour.hides_length = True
    lying.behaviour.refusals = 10**6
    lying.behaviour.refusal_status = 429
    lying.behaviour.retry_after = "30"
    with engine.begin("pull", f"{lying.host}/judge/slow:1") as pulling:
        eventually(lambda: bool(lying.requests("GET")), "it has asked")
        pulling.terminate()
        pulling.wait(timeout=30)
    assert eventually(lambda: left_in(engine) == before, "nothing of it stays")


def test_the_engine_may_be_killed_in_a_pull(registry: str, tmp_path: Path) -> None:
    publish(tmp_path, registry, images.layered(), "judge/killed:1")
    with Engine() as engine:
        with_images(engine)
        engine.must("rmi", "judge/layers:1")
        before = left_in(engine)
        for delay in (0.0, 0.05, 0.1, 0.2):
            with engine.begin("pull", f"{registry}/judge/killed:1") as pulling:
                time.sleep(delay)
                engine.kill9()
                pulling.wait(timeout=30)
            engine.start()
            if engine.must("images", "-q", f"{registry}/judge/killed"):
                assert (
                    engine.must("run", "--rm", "--user", "root", f"{registry}/judge/killed:1", "cat", "/data/kept").splitlines()[-1]
                    == "kept"
                )
                engine.must("rmi", f"{registry}/judge/killed:1")
            assert left_in(engine) == before
        engine.must("pull", f"{registry}/judge/killed:1")


def test_a_registry_with_certificates_of_its_own(tmp_path: Path) -> None:
    """By the directory of its host: an address of this machine that is not loopback's is not spoken to without."""
    certificate = Authority(tmp_path, "tls").issue("registry", server=True)
    with docker_registry(tmp_path / "r", tls=certificate) as host, Engine() as engine:
        publish(tmp_path, host, images.busybox(), "judge/tls:1")
        engine.must("pull", f"{host}/judge/tls:1")
        assert engine.must("run", "--rm", f"{host}/judge/tls:1", "echo", "it runs") == "it runs"


def test_an_engine_that_keeps_layers_once_pulls_them_once_and_pushes_what_it_has(registry: str, tmp_path: Path) -> None:
    publish(tmp_path, registry, images.layered(), "judge/once:1")
    with Engine(extra=("--compressed-layers", "drop")) as engine:
        name = f"{registry}/judge/once:1"
        engine.must("pull", name)
        blobs = os.listdir(engine.root / "blobs/sha256")
        assert len(blobs) == 2, "manifest and config"
        assert engine.must("pull", name).splitlines()[-2] == f"Status: Image is up to date for {name}"
        assert engine.must("run", "--rm", "--user", "root", name, "cat", "/data/kept").splitlines()[-1] == "kept"
        engine.must("tag", name, f"{registry}/judge/again:1")
        pushed = engine.must("push", f"{registry}/judge/again:1")
        digest = re.search(r"digest: (sha256:[0-9a-f]{64})", pushed)
        assert digest is not None, pushed
        assert engine.must("push", f"{registry}/judge/again:1").splitlines()[-1] == pushed.splitlines()[-1], "the same every time"
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry}/judge/again:1"],
        check=True,
        capture_output=True,
        text=True,
    )
    manifest = json.loads(raw.stdout)
    assert manifest["config"]["digest"] == images.layered().config_id
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar"] * 3
