"""`docker push` and `docker login`, with the docker command and docker-py, to Debian's docker-registry and to one that misbehaves."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from support import images
from support.certificates import Authority
from support.docker_host import DockerHost
from support.docker_registry import docker_registry
from support.engine import Engine
from support.needs import needs
from support.registry import PASSWORD, USERNAME, FakeRegistry, serving

pytestmark = [needs("root", "busybox", "overlayfs", "docker_cli", "docker_registry")]

_ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
LAYERS = images.layered().layers


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry") / "plain") as host:
        yield host


@pytest.fixture
def repository(registry: str, engine: DockerHost) -> Iterator[str]:
    """A name that nobody else has, in the registry; the engine forgets its images afterwards."""
    yield from _repository(registry, engine)


def _repository(host: str, engine: DockerHost) -> Iterator[str]:
    name = f"{host}/test/{secrets.token_hex(6)}"
    yield name
    names = engine.must("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    for tagged in names:
        if tagged.startswith(f"{host}/"):
            engine.must("rmi", tagged)


def in_registry(repository: str, name: str, *, kind: str = "manifests") -> tuple[str, bytes]:
    """The digest that a registry in the clear gives for the tag or digest `name`, and the document."""
    host, _, path = repository.partition("/")
    request = urllib.request.Request(f"http://{host}/v2/{path}/{kind}/{name}", headers={"Accept": _ACCEPT})
    with urllib.request.urlopen(request) as response:
        return response.headers["Docker-Content-Digest"], response.read()


def short(layer: bytes) -> str:
    return hashlib.sha256(layer).hexdigest()[:12]


def test_push_and_push_again(engine: DockerHost, repository: str) -> None:
    engine.must("tag", "judge/layers:1", f"{repository}:1")
    lines = engine.must("push", f"{repository}:1").splitlines()
    digest, manifest = in_registry(repository, "1")
    assert lines[:4] == [f"The push refers to repository [{repository}]", *(f"{short(layer)}: Preparing" for layer in reversed(LAYERS))]
    assert lines[-1] == f"1: digest: {digest} size: {len(manifest)}"
    # What the tests before have pushed to another repository is mounted from there.
    assert len(lines) == 8
    assert engine.inspect(f"{repository}:1")["Id"] == digest
    assert engine.inspect(f"{repository}:1")["RepoDigests"] == [f"{repository}@{digest}", f"judge/layers@{digest}"]
    again = engine.must("push", f"{repository}:1").splitlines()
    assert sorted(again[4:7]) == sorted(f"{short(layer)}: Layer already exists" for layer in LAYERS)
    assert again[-1] == lines[-1]


def test_a_layer_is_mounted_from_another_repository(engine: DockerHost, repository: str) -> None:
    engine.must("tag", "judge/layers:1", f"{repository}:1")
    engine.must("tag", "judge/layers:1", f"{repository}-too:1")
    engine.must("push", f"{repository}:1")
    output = engine.must("push", f"{repository}-too:1")
    assert output.count(": Mounted from test/") == 3
    assert in_registry(repository, "1") == in_registry(f"{repository}-too", "1")


def test_all_tags_are_pushed(engine: DockerHost, repository: str) -> None:
    for tag, image in (("a", "busybox"), ("b", "judge/layers:1"), ("c", "busybox")):
        engine.must("tag", image, f"{repository}:{tag}")
    lines = engine.must("push", "-a", repository).splitlines()
    assert [line.partition(":")[0] for line in lines if ": digest: " in line] == ["a", "b", "c"]
    assert in_registry(repository, "a")[0] == in_registry(repository, "c")[0] != in_registry(repository, "b")[0]


def test_quietly(engine: DockerHost, repository: str) -> None:
    engine.must("tag", "busybox", f"{repository}:1")
    assert engine.must("push", "-q", f"{repository}:1") == f"{repository}:1"


def test_an_index_is_pushed_whole(engine: DockerHost, repository: str) -> None:
    archive, digest = images.index_archive(f"{repository}:multi", {"amd64": images.busybox(), "arm64": small("arm64")})
    engine.load(archive)
    assert f"multi: digest: {digest}" in engine.must("push", f"{repository}:multi")
    told, document = in_registry(repository, "multi")
    assert told == digest
    index = json.loads(document)
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64", "unknown"]
    shown = json.loads(engine.must("manifest", "inspect", "--insecure", f"{repository}:multi"))
    assert [entry["digest"] for entry in shown["manifests"]] == [entry["digest"] for entry in index["manifests"]]
    for entry in index["manifests"]:
        assert in_registry(repository, entry["digest"])[0] == entry["digest"]


def test_one_platform_of_an_index(engine: DockerHost, repository: str) -> None:
    archive, digest = images.index_archive(f"{repository}:multi", {"amd64": images.busybox(), "arm64": small("arm64")})
    engine.load(archive)
    engine.must("push", "--platform", "linux/arm64", f"{repository}:multi")
    told, document = in_registry(repository, "multi")
    assert told != digest
    _, config = in_registry(repository, json.loads(document)["config"]["digest"], kind="blobs")
    assert json.loads(config)["architecture"] == "arm64"
    refused = engine.docker("push", "--platform", "linux/s390x", f"{repository}:multi")
    assert refused.exit_code == 1
    assert "its platform (linux/amd64) does not match the specified platform (linux/s390x)\n" in refused.stderr


def test_of_an_index_that_came_in_part_what_is_here_is_pushed(engine: DockerHost, repository: str) -> None:
    archive, digest = images.index_archive(f"{repository}:part", {"amd64": small("amd64"), "arm64": small("arm64")})
    engine.must("load", "--platform", "linux/amd64", stdin=archive)
    output = engine.must("push", f"{repository}:part")
    told, document = in_registry(repository, "part")
    assert "Not all multiplatform-content is present and only the available single-platform image was pushed" in output
    assert digest in output
    assert told in output, "what went, and instead of what"
    assert json.loads(document)["mediaType"] == "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "An image does not exist locally with the tag: {name}"),
        (":2", "tag does not exist: {name}:2"),
    ],
)
def test_what_cannot_be_pushed(engine: DockerHost, repository: str, name: str, message: str) -> None:
    if name:
        engine.must("tag", "busybox", f"{repository}:1")
    refused = engine.docker("push", repository + name)
    assert (refused.exit_code, refused.stderr) == (1, message.format(name=repository) + "\n")


def test_where_there_is_no_registry(engine: DockerHost) -> None:
    engine.must("tag", "busybox", "127.0.0.1:1/nowhere:1")
    refused = engine.docker("push", "127.0.0.1:1/nowhere:1")
    engine.must("rmi", "127.0.0.1:1/nowhere:1")
    assert refused.stdout == "The push refers to repository [127.0.0.1:1/nowhere]\n"
    assert (refused.exit_code, refused.stderr) == (
        1,
        'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused\n',
    )


def test_docker_py_pushes(engine: DockerHost, docker_py: docker.DockerClient, repository: str) -> None:
    docker_py.images.get("busybox").tag(repository, "1")
    lines: list[dict[str, Any]] = list(docker_py.images.push(repository, tag="1", stream=True, decode=True))
    digest, manifest = in_registry(repository, "1")
    assert lines[0] == {"status": f"The push refers to repository [{repository}]"}
    assert lines[-1]["aux"] == {"Tag": "1", "Digest": digest, "Size": len(manifest)}
    found = docker_py.images.get_registry_data(f"{repository}:1")
    assert found.id == digest
    assert [platform["architecture"] for platform in found.attrs["Platforms"]] == ["amd64"]
    told = list(docker_py.images.push(repository, tag="nosuch", stream=True, decode=True))
    assert told[-1]["error"] == f"tag does not exist: {repository}:nosuch"


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_login_and_push_with_what_it_stored(engine: DockerHost, tmp_path: Path, auth: str) -> None:
    with docker_registry(tmp_path / auth, auth=auth) as host, _logged_out(engine, host):
        repository = f"{host}/test/image"
        engine.must("tag", "busybox", f"{repository}:1")
        refused = engine.docker("push", f"{repository}:1")
        assert refused.exit_code == 1
        assert (
            refused.stderr
            == {
                "basic": "no basic auth credentials\n",
                "token": "denied: requested access to the resource is denied\n",
            }[auth]
        )
        wrong = engine.docker("login", "-u", USERNAME, "--password-stdin", host, stdin=b"wrong")
        assert wrong.exit_code == 1
        assert {
            "basic": f"login attempt to http://{host}/v2/ failed with status: 401 Unauthorized",
            "token": "unauthorized: incorrect username or password",
        }[auth] in wrong.stderr
        assert "Login Succeeded" in engine.must("login", "-u", USERNAME, "--password-stdin", host, stdin=PASSWORD.encode())
        assert "1: digest: sha256:" in engine.must("push", f"{repository}:1")
        assert "Layer already exists" in engine.must("push", f"{repository}:1")
        engine.must("tag", "busybox", f"{repository}-too:1")
        assert "Mounted from test/image" in engine.must("push", f"{repository}-too:1")
        engine.must("rmi", f"{repository}:1", f"{repository}-too:1")


@contextmanager
def _logged_out(engine: DockerHost, host: str) -> Iterator[None]:
    """The docker command of this engine has a configuration of its own, which others use after this one."""
    try:
        yield
    finally:
        engine.must("logout", host)


@needs("openssl")
def test_over_tls(engine: DockerHost, tmp_path: Path) -> None:
    """docker: a registry on loopback need not show whose it is."""
    server = Authority(tmp_path, "authority").issue("server", server=True)
    with docker_registry(tmp_path / "registry", tls=server) as host:
        engine.must("tag", "busybox", f"{host}/a:1")
        assert "1: digest: sha256:" in engine.must("push", f"{host}/a:1")
        engine.must("rmi", f"{host}/a:1")


@pytest.fixture
def liar(engine: DockerHost) -> Iterator[FakeRegistry]:
    with serving(FakeRegistry()) as registry:
        engine.must("tag", "judge/layers:1", f"{registry.host}/image:1")
        yield registry
        engine.must("rmi", f"{registry.host}/image:1")


def test_a_refusal_is_told(engine: DockerHost, liar: FakeRegistry) -> None:
    body = {"errors": [{"code": "DENIED", "message": "requested access to the resource is denied", "detail": "x"}]}
    liar.behaviour.error = (403, "application/json", json.dumps(body).encode())
    refused = engine.docker("push", f"{liar.host}/image:1")
    assert (refused.exit_code, refused.stderr) == (1, "denied: requested access to the resource is denied\n")
    assert liar.tags == {}


def test_what_breaks_is_begun_anew(engine: DockerHost, liar: FakeRegistry) -> None:
    liar.behaviour.upload_cuts = 2
    liar.behaviour.refusals = 1
    told = engine.must("push", f"{liar.host}/image:1")
    assert re.search(r"^[0-9a-f]{12}: Retrying in 1 second$", told, re.MULTILINE)
    assert {len(data) for data in liar.blobs["image"].values()} >= {len(layer) for layer in LAYERS}


def test_a_registry_that_sends_uploads_elsewhere_in_circles(engine: DockerHost, liar: FakeRegistry) -> None:
    liar.behaviour.redirect_loop = True
    refused = engine.docker("push", f"{liar.host}/image:1")
    assert refused.exit_code == 1
    assert "stopped after 10 redirects" in refused.stderr


def test_a_client_that_goes_away_ends_its_push(fresh_engine: Engine) -> None:
    """The registry here says nothing; it notices that it is not waited for any more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        listener.settimeout(30)
        fresh_engine.must("tag", "busybox", f"{host}/a:1")
        with fresh_engine.begin("push", f"{host}/a:1") as client:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                client.kill()
                while connection.recv(65536):
                    pass
    assert "Traceback" not in fresh_engine.log_path.read_text()


def small(name: str) -> images.Image:
    return images.Image((), (images.pack([images.file("name", name)]),), {})
