"""Fixtures of the end-to-end tier: real engines with temporary roots. Nothing may be left on the host after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeVar

import docker
import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.leaks import nothing_left_on_the_host

__all__ = ["nothing_left_on_the_host"]

Host = TypeVar("Host", bound=DockerHost)


def with_images(engine: Host) -> Host:
    for image in (images.busybox(), images.layered()):
        engine.load(image.docker_archive())
    return engine


@pytest.fixture(scope="module")
def module_engine() -> Iterator[DockerHost]:
    """Teul; or, with TEUL_E2E_AGAINST=dockerd, a real Docker: what fails there for another reason than its age is a wrong test."""
    host = Dockerd() if os.environ.get("TEUL_E2E_AGAINST") == "dockerd" else Engine()
    with host as running:
        yield with_images(running)


@pytest.fixture
def engine(module_engine: DockerHost) -> Iterator[DockerHost]:
    """An engine that the module's tests share, without containers."""
    yield module_engine
    module_engine.remove_containers()


@pytest.fixture
def fresh_engine() -> Iterator[Engine]:
    """An engine of the test's own, to be killed."""
    with Engine() as running:
        yield with_images(running)


@pytest.fixture
def docker_py(engine: DockerHost) -> Iterator[docker.DockerClient]:
    """docker-py, unchanged, speaking to the shared engine."""
    client = docker.DockerClient(base_url=f"unix://{engine.socket_path}", version="auto", timeout=60)
    yield client
    client.close()
