"""`teul manifest inspect` shows what docker's shows, byte by byte, of what Debian's docker-registry has, and fails in its words."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from support import images
from support.certificates import Authority
from support.docker_host import Output
from support.docker_registry import docker_registry
from support.needs import needs
from support.registry import PASSWORD, USERNAME, FakeRegistry, serving, stock

pytestmark = [needs("docker_cli_28", "docker_registry", "skopeo", "busybox")]

TEUL = str(Path(sys.executable).with_name("teul"))
NAMES = {
    "manifest": "judge/layers:1",
    "docker": "judge/docker:1",
    "index": "judge/multi:1",
    "docker-index": "judge/docker-multi:1",
    "markup": "judge/markup:1",
}


def copy(directory: Path, host: str, archive: bytes, name: str, *, form: str = "", everything: bool = False) -> None:
    """Have skopeo copy an OCI archive into the registry, in Docker's `form` if it is "v2s2"."""
    path = directory / "archive.tar"
    path.write_bytes(archive)
    options = [*(["--all"] if everything else []), *(["--format", form] if form else [])]
    target = f"docker://{host}/{name}"
    command = ["skopeo", "--insecure-policy", "copy", "-q", *options, "--dest-tls-verify=false", f"oci-archive:{path}", target]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("registry")
    with docker_registry(directory / "r") as host:
        copy(directory, host, images.layered().oci_archive(), NAMES["manifest"])
        copy(directory, host, images.layered().oci_archive(), NAMES["docker"], form="v2s2")
        index = images.index_archive("multi:1", {"amd64": images.busybox(), "arm64": images.layered()})[0]
        copy(directory, host, index, NAMES["index"], everything=True)
        both = {"amd64": images.Image((), (images.pack([]),), {}), "arm": images.Image((), (images.pack([]),), {})}
        copy(directory, host, without_attestation(directory, both), NAMES["docker-index"], form="v2s2", everything=True)
        _put_markup(host)
        yield host


def without_attestation(directory: Path, platforms: dict[str, images.Image]) -> bytes:
    """An index that can be written in Docker's own form, which has no place for attestations."""
    layout = directory / "layout"
    (directory / "whole.tar").write_bytes(images.index_archive("multi:1", platforms)[0])
    layout.mkdir()
    subprocess.run(["tar", "-xf", directory / "whole.tar", "-C", layout], check=True)
    outer = json.loads((layout / "index.json").read_text())
    target = layout / "blobs/sha256" / outer["manifests"][0]["digest"].removeprefix("sha256:")
    index = json.loads(target.read_text())
    index["manifests"] = index["manifests"][:-1]
    data = json.dumps(index).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    (layout / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(data)
    outer["manifests"] = [{"mediaType": index["mediaType"], "digest": digest, "size": len(data)}]
    (layout / "index.json").write_text(json.dumps(outer))
    subprocess.run(["tar", "-cf", directory / "cut.tar", "-C", layout, "."], check=True)
    return (directory / "cut.tar").read_bytes()


def _put_markup(host: str) -> None:
    """A manifest with everything that two writers of JSON may write differently, among its annotations."""
    inspect = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/{NAMES['manifest']}"]
    manifest: dict[str, Any] = json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)
    manifest["annotations"] = {"a": '<b> & "c" \\ \t é \u2028 ', "b": ""}
    text = json.dumps(manifest, separators=(" , ", " : ")).replace('"schemaVersion"', '"x": [ ],"y":{ }, "n": 1.50e+01, "schemaVersion"')
    repository, _, tag = NAMES["markup"].partition(":")
    source = NAMES["manifest"].partition(":")[0]
    for blob in (manifest["config"], *manifest["layers"]):
        _send("POST", f"http://{host}/v2/{repository}/blobs/uploads/?mount={blob['digest']}&from={source}")
    _send("PUT", f"http://{host}/v2/{repository}/manifests/{tag}", text.encode(), manifest["mediaType"])


def _send(method: str, url: str, data: bytes | None = None, media_type: str = "") -> None:
    request = Request(url, data, {"Content-Type": media_type} if media_type else {}, method=method)
    with urlopen(request) as response:
        assert response.status == 201


def _encoded(password: str) -> str:
    return base64.b64encode(f"{USERNAME}:{password}".encode()).decode()


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


class Both:
    """Both commands, with the settings of one user. Neither speaks to an engine: there is none."""

    def __init__(self, directory: Path) -> None:
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "DOCKER_HOST": "unix:///nowhere.sock"}
        self.config = directory / ".docker/config.json"
        self.config.parent.mkdir()

    def same(self, *arguments: str) -> Output:
        outputs = []
        for program in ("docker", TEUL):
            done = subprocess.run([program, "manifest", *arguments], capture_output=True, text=True, env=self._environment, check=False)
            # Go says which server has looked the name up; and the command calls itself by its name.
            err = re.sub(r"(lookup \S+) on \S+:53", r"\1", done.stderr)
            outputs.append(Output(done.returncode, done.stdout, re.sub(r"docker(?=: '| manifest)", "teul", err)))
        assert outputs[1] == outputs[0]
        return outputs[1]


@pytest.mark.parametrize("verbose", [(), ("-v",)], ids=["", "verbose"])
@pytest.mark.parametrize("kind", NAMES)
def test_what_a_registry_has(both: Both, registry: str, kind: str, verbose: tuple[str, ...]) -> None:
    output = both.same("inspect", "--insecure", *verbose, f"{registry}/{NAMES[kind]}")
    assert output.exit_code == 0
    document = json.loads(output.stdout)
    assert len(document) if "index" in kind and verbose else ("manifests" in document) == ("index" in kind)


def test_by_digest(both: Both, registry: str) -> None:
    [first, *_] = json.loads(both.same("inspect", "--insecure", "-v", f"{registry}/{NAMES['index']}").stdout)
    digest = first["Descriptor"]["digest"]
    name = f"{registry}/judge/multi"
    assert both.same("inspect", "--insecure", f"{name}@{digest}").exit_code == 0
    assert both.same("inspect", "--insecure", "-v", f"{name}@{digest}").exit_code == 0
    assert both.same("inspect", "--insecure", f"{name}:1@{digest}").exit_code == 1, "the tag names the index"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--insecure", "{host}/judge/layers:nosuch"),
        ("--insecure", "{host}/judge/layers"),
        ("--insecure", "{host}/nosuch"),
        ("--insecure", "{host}/judge/layers@sha256:" + "0" * 64),
        ("{host}/judge/layers:1",),
        ("--insecure", "127.0.0.1:1/x"),
        ("127.0.0.1:1/x",),
        ("nosuch.invalid/x",),
        ("Bad",),
        ("a:b:c",),
        ("list", "Bad"),
        ("Bad", "one"),
        ("list", "one"),
        ("sha256:" + "0" * 64,),
        (),
        ("a", "b", "c"),
    ],
    ids=" ".join,
)
def test_what_is_not_there(both: Both, registry: str, arguments: tuple[str, ...]) -> None:
    assert both.same("inspect", *(argument.format(host=registry) for argument in arguments)).exit_code == 1


def test_who_is_asked_for_a_password(both: Both, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "closed", auth="basic") as host:
        assert both.same("inspect", "--insecure", f"{host}/nosuch").exit_code == 1
        both.config.write_text(json.dumps({"auths": {host: {"auth": _encoded(PASSWORD)}}}))
        assert both.same("inspect", "--insecure", f"{host}/nosuch").stderr == f"no such manifest: {host}/nosuch:latest\n"
        both.config.write_text(json.dumps({"auths": {host: {"auth": _encoded("wrong")}}}))
        assert both.same("inspect", "--insecure", f"{host}/nosuch").exit_code == 1


def test_a_registry_over_tls(both: Both, tmp_path: Path) -> None:
    """On loopback nothing is verified."""
    tls = Authority(tmp_path, "authority").issue("registry", server=True)
    with docker_registry(tmp_path / "tls", tls=tls) as host:
        assert both.same("inspect", f"{host}/nosuch").exit_code == 1
        copy(tmp_path, host, images.busybox().oci_archive(), "box:1")
        assert both.same("inspect", f"{host}/box:1").exit_code == 0


def test_what_a_registry_refuses(both: Both) -> None:
    registry = FakeRegistry()
    with serving(registry):
        host = registry.host
        stock(registry, images.busybox(), "box")
        assert both.same("inspect", "--insecure", f"{host}/box:1").exit_code == 0
        for error in (
            (403, "application/json", b'{"errors": [{"code": "DENIED", "message": "not for you", "detail": "x"}]}'),
            (429, "application/json", b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "later"}]}'),
            (500, "text/plain", b"broken"),
            (404, "text/plain", b"nothing here"),
        ):
            registry.behaviour.error = error
            assert both.same("inspect", "--insecure", f"{host}/box:1").exit_code == 1


def test_lists_are_not_put_together(both: Both) -> None:
    """docker does that by itself; Teul says so."""
    for verb in ("create", "annotate", "push", "rm"):
        done = subprocess.run([TEUL, "manifest", verb, "a", "b"], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("teul puts no lists of manifests together: of `manifest` there is `inspect` only.\n")
