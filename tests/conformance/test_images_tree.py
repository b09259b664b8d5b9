"""`teul images --tree` is `docker images --tree`, byte by byte, of the same engine: in a pipe and on terminals of any width."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.engine import Engine
from support.needs import needs
from support.terminal import Terminal

pytestmark = [needs("root", "docker_cli_28", "busybox", "overlayfs")]

TEUL = str(Path(sys.executable).with_name("teul"))
LONG = "docker.io/multi/arch:a-name-that-is-longer-than-its-column"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """With an image of several names, one for several platforms with an attestation and a container, and one without a name."""
    with Engine() as engine:
        for image in (images.busybox(), images.layered()):
            engine.load(image.docker_archive())
        engine.load(images.index_archive(LONG, {"amd64": images.busybox(), "arm64": images.layered()})[0])
        engine.load(images.Image((), (images.pack([images.file("x", "y")]),), {}).oci_archive())
        engine.must("tag", "busybox", "reg.test:5000/box:second")
        engine.must("run", "--name", "user", LONG.removeprefix("docker.io/"), "true")
        yield engine
        engine.remove_containers()


@pytest.mark.parametrize(
    "arguments",
    [(), ("-a",), ("busybox",), ("nosuch",), ("-f", "dangling=true"), ("-f", "nonsense=1"), ("-q",), ("--no-trunc",), ("--digests",)],
    ids=" ".join,
)
def test_same_bytes(engine: Engine, arguments: tuple[str, ...]) -> None:
    docker = engine.docker("images", "--tree", *arguments)
    assert engine.teul("images", "--tree", *arguments) == docker
    assert engine.teul("image", "ls", "--tree", *arguments) == docker


def test_the_tree_is_one(engine: Engine) -> None:
    """What is compared above has platforms, a mark and an image without a name in it."""
    text = engine.must("images", "--tree", "-a")
    assert "├─ linux/amd64" in text
    assert "└─ linux/arm64" in text
    assert "<untagged>" in text
    assert "   U    \n" in text


@pytest.mark.parametrize("columns", [0, 10, 22, 30, 45, 60, 80, 120])
def test_same_bytes_on_a_terminal(engine: Engine, columns: int) -> None:
    shown = []
    for program in ("docker", TEUL):
        with Terminal([program, "images", "--tree", "-a"], environment=engine.environment(), columns=columns) as terminal:
            assert terminal.wait() == 0
            shown.append(terminal.output)
    assert shown[1] == shown[0]
    assert "\x1b[93mWARNING" in shown[0]


def test_an_older_api(engine: Engine) -> None:
    outputs = [
        engine.run(["env", "DOCKER_API_VERSION=1.46", program, "images", "--tree"], stdin=b"", timeout_seconds=60.0)
        for program in ("docker", TEUL)
    ]
    assert outputs[1] == outputs[0]
    assert outputs[0].exit_code == 1


def test_true_sizes(engine: Engine) -> None:
    """What the tree says of layers is what `docker system df` says of images."""
    output = engine.teul("images", "--tree", "--layers")
    assert output.exit_code == 0
    assert "│  └─ layer 1" in output.stdout
    assert "   └─ layer 3" in output.stdout
    with engine.api() as api:
        usage = api.expect(200, "GET", "/system/df").json()
        tree = api.expect(200, "GET", "/teul/images/layers").json()
    assert tree["TotalSize"] == usage["LayersSize"]
    sizes = {image["Id"]: (image["Size"], image["SharedSize"]) for image in usage["Images"]}
    assert {image["Id"]: (image["DiskSize"], image["SharedSize"]) for image in tree["Images"]} == sizes
    assert {layer["Images"] for image in tree["Images"] for manifest in image["Manifests"] for layer in manifest["Layers"]} == {1, 2, 3}
