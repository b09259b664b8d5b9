"""What containers do, and are seen to do, beside a real dockerd."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]

TRAPPING = 'run -d --name box busybox sh -c \'trap "echo term; exit 3" TERM; trap "echo hup" HUP; while :; do sleep 0.1; done\''


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[DockerHost, DockerHost]]:
    with Dockerd() as dockerd, Engine() as engine:
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
        yield dockerd, engine


@pytest.fixture
def hosts(both: tuple[DockerHost, DockerHost]) -> Iterator[tuple[DockerHost, DockerHost]]:
    yield both
    for host in both:
        host.remove_containers()


def docker(host: DockerHost, command: str) -> str:
    return host.must(*shlex.split(command))


def status(host: DockerHost, name: str) -> str:
    return host.must("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)


def has_become(host: DockerHost, name: str, wanted: str) -> bool:
    return status(host, name) == wanted


@pytest.mark.parametrize(("signal", "end"), [("TERM", "exited 3"), ("HUP", "running 0")])
def test_a_paused_container_goes_on_to_get_a_signal(hosts: tuple[DockerHost, DockerHost], signal: str, end: str) -> None:
    for host in hosts:
        docker(host, TRAPPING)
        docker(host, "pause box")
        docker(host, f"kill -s {signal} box")
        eventually(partial(has_become, host, "box", end), "it has got the signal")
        assert eventually(partial(docker, host, "logs box"), "it says so") == signal.lower()


def test_a_paused_container_that_is_stopped_by_another_signal_stays_so(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        docker(host, "run -d --name box --stop-signal USR1 busybox sleep 100000")
        docker(host, "pause box")
        docker(host, "kill -s HUP box")
        assert status(host, "box") == "paused 0"


@pytest.mark.parametrize("condition", ["next-exit", "removed", "not-running"])
def test_a_removal_is_an_end_to_whoever_waits(hosts: tuple[DockerHost, DockerHost], condition: str) -> None:
    for host in hosts:
        key = docker(host, "create busybox true")
        said: list[object] = []

        def wait(host: DockerHost = host, key: str = key, said: list[object] = said) -> None:
            with host.api() as api:
                # Nobody can see that a wait has begun; where it begins after the removal, the container is not found.
                answer = api.request("POST", f"/containers/{key}/wait?condition={condition}")
                said.append(answer.json().get("StatusCode", answer.status))

        waiter = threading.Thread(target=wait)
        waiter.start()
        try:
            waiter.join(0.3)
        finally:
            docker(host, f"rm {key}")
            waiter.join(20)
        assert said == [0]
