"""docker-py, unchanged, works: its objects, its exceptions, its streams."""

from __future__ import annotations

import io
import random
from typing import Any

import docker
import pytest
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

from support import images
from support.docker_host import DockerHost
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs")]


def test_run_returns_the_output(docker_py: docker.DockerClient) -> None:
    assert docker_py.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"


def test_failing_command_raises_container_error(docker_py: docker.DockerClient) -> None:
    with pytest.raises(ContainerError) as failed:
        docker_py.containers.run("busybox", ["sh", "-c", "echo wrong >&2; exit 3"], remove=True)
    assert failed.value.exit_status == 3
    stderr: object = failed.value.stderr
    assert stderr == b"wrong\n"


def test_missing_things_raise_the_right_exceptions(docker_py: docker.DockerClient) -> None:
    """docker-py looks for words in our message."""
    with pytest.raises(ImageNotFound):
        docker_py.images.get("no-such-image")
    with pytest.raises(NotFound):
        docker_py.containers.get("no-such-container")
    with pytest.raises(ImageNotFound):
        docker_py.api.create_container("no-such-image", "true")


def test_conflict_has_its_status(docker_py: docker.DockerClient) -> None:
    docker_py.containers.create("busybox", "true", name="taken")
    with pytest.raises(APIError) as refused:
        docker_py.containers.create("busybox", "true", name="taken")
    assert refused.value.status_code == 409


def test_life_of_a_container_object(docker_py: docker.DockerClient) -> None:
    container = docker_py.containers.run("busybox", ["sleep", "1000"], detach=True, name="living", labels={"a": "b"})
    container.reload()
    assert container.status == "running"
    assert container.name == "living"
    assert container.labels == {"a": "b"}
    assert container in docker_py.containers.list(filters={"label": "a=b"})
    done: object = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    assert done == (4, (b"out\n", b"err\n"))
    assert any("sleep 1000" in process[-1] for process in container.top()["Processes"])
    container.pause()
    container.unpause()
    container.rename("renamed")
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    container.remove()
    assert docker_py.containers.list(all=True) == []


def test_attach_socket_takes_input(docker_py: docker.DockerClient) -> None:
    container = docker_py.containers.create("busybox", ["sh", "-c", "read line; echo got $line"], stdin_open=True)
    stream: Any = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    connection = stream._sock
    container.start()
    connection.sendall(b"typed\n")
    container.wait()
    stream.close()
    connection.close()
    assert container.logs() == b"got typed\n"


def test_log_stream_is_an_iterator_of_chunks(docker_py: docker.DockerClient) -> None:
    container = docker_py.containers.run("busybox", ["sh", "-c", "echo one; echo two"], detach=True)
    assert b"".join(container.logs(stream=True, follow=True)) == b"one\ntwo\n"
    assert container.logs(tail=1) == b"two\n"
    assert b"Z one" in container.logs(timestamps=True)


def test_images_are_loaded_tagged_listed_and_removed(docker_py: docker.DockerClient) -> None:
    loaded = docker_py.images.load(io.BytesIO(images.layered().docker_archive()))
    assert [image.tags for image in loaded] == [["judge/layers:1"]]
    loaded[0].tag("copy", "v1")
    assert "copy:v1" in docker_py.images.get("judge/layers:1").tags
    docker_py.images.remove("copy:v1")
    assert docker_py.images.get("judge/layers:1").id in {images.layered().image_id, images.layered().config_id}
    assert docker_py.images.get(images.layered().config_id).tags == ["judge/layers:1"]
    assert len(docker_py.images.get("judge/layers:1").history()) == 3


@pytest.mark.parametrize("quiet", [None, True, False])
def test_what_was_sent_whole_is_loaded_though_nobody_reads_the_answer(
    engine: DockerHost, docker_py: docker.DockerClient, quiet: bool | None
) -> None:
    """`load_image` returns a generator that many callers drop."""
    layers = tuple(images.pack([images.file(f"noise-{number}", random.Random(number).randbytes(4 << 20))]) for number in range(4))
    archive = images.Image(("unread:1",), layers, {}).docker_archive()
    careless = docker.DockerClient(base_url=f"unix://{engine.socket_path}", version="auto")
    careless.api.load_image(archive, quiet=quiet)  # type: ignore[no-untyped-call]
    careless.close()
    loaded = eventually(lambda: [image for image in docker_py.images.list() if "unread:1" in image.tags], "image that was sent")
    assert len(loaded[0].attrs["RootFS"]["Layers"]) == 4
    docker_py.images.remove("unread:1")


def test_info_ping_and_version(docker_py: docker.DockerClient) -> None:
    assert docker_py.ping() is True
    assert docker_py.info()["OSType"] == "linux"
    assert docker_py.version()["MinAPIVersion"] == "1.24"
    assert docker_py.version()["ApiVersion"] == "1.51"
