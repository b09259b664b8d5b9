"""What is refused about containers, by status and in Docker's words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]

SETTING = (
    "run -d --name box busybox sleep 100000",
    "create --name still busybox true",
    "run -d --name frozen busybox sleep 100000",
    "pause frozen",
)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[DockerHost, DockerHost]]:
    with Dockerd() as dockerd, Engine() as engine:
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
            for command in SETTING:
                host.must(*shlex.split(command))
        yield dockerd, engine


def outcome(host: DockerHost, command: str) -> tuple[int, str]:
    """Exit code and text, without ids and what docker says of itself."""
    done = host.docker(*shlex.split(command))
    text = re.sub(r"[0-9a-f]{64}", "<id>", done.stdout + done.stderr)
    return done.exit_code, text.removeprefix("docker: ").partition("\n\nRun 'docker")[0].strip()


def told(host: DockerHost, method: str, path: str, body: Any = None) -> tuple[int, str]:
    with host.api(version="v1.41") as api:
        answer = api.request(method, path, body)
    return answer.status, re.sub(r"[0-9a-f]{64}", "<id>", answer.message)


@pytest.mark.parametrize(
    "command",
    [
        "run --rm -u nosuch busybox true",
        "run --rm -u 0:nosuch busybox true",
        "run --rm -u -1 busybox true",
        "run --rm -u 99999999999 busybox true",
        "run --rm -u 9223372036854775808 busybox true",
        "run --rm --group-add -1 busybox true",
        "run --rm -u +5:+6 busybox id",
        "run --rm -w /bin/cat busybox true",
        "exec frozen true",
        "attach nosuch",
        "attach frozen",
        "run --rm --log-driver nosuch busybox true",
    ],
)
def test_both_say_the_same(hosts: tuple[DockerHost, DockerHost], command: str) -> None:
    docker, teul = (outcome(host, command) for host in hosts)
    assert teul == docker


@pytest.mark.parametrize("user", ["nosuch", "0:nosuch", "-1", "99999999999"])
def test_who_is_unknown_is_refused_when_the_exec_is_prepared(hosts: tuple[DockerHost, DockerHost], user: str) -> None:
    """The text is that of 20.10, which finds it out when the exec is started."""
    docker, teul = hosts
    said = outcome(docker, f"exec -u {user} box true")[1]
    assert told(teul, "POST", "/containers/box/exec", {"Cmd": ["true"], "User": user}) == (400, said)
    assert outcome(teul, f"exec -u {user} box true") == (1, f"Error response from daemon: {said}")


def test_who_is_known_may_be_named(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        assert host.must("exec", "-u", "root:root", "box", "id", "-u") == "0"
        assert host.must("exec", "-u", "+5", "box", "id", "-u") == "5"


@pytest.mark.parametrize("name", ["nosuch", "frozen"])
def test_a_request_to_attach_is_refused_in_plain_text(hosts: tuple[DockerHost, DockerHost], name: str) -> None:
    said = []
    for host in hosts:
        with host.api() as api:
            answer = api.request("POST", f"/containers/{name}/attach?stream=1&stdout=1")
        said.append((answer.status, answer.headers["content-type"], answer.body))
    assert said[1] == said[0]
    assert said[1][1:] == ("application/vnd.docker.raw-stream", said[1][2])


@pytest.mark.parametrize("network", ["none", "bridge", "host"])
def test_an_address_on_a_predefined_network(hosts: tuple[DockerHost, DockerHost], network: str) -> None:
    command = f"run --rm --network {network} --ip 10.9.8.7 busybox true"
    docker, teul = (outcome(host, command) for host in hosts)
    assert docker == (125, "Error response from daemon: user specified IP address is supported on user defined networks only")
    # As today's Docker has it, which judges all that is asked of a network at once.
    problem = "invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only"
    assert teul == (125, f"Error response from daemon: invalid config for network {network}: {problem}")


@pytest.mark.parametrize("command", ["create --pid container:nosuch busybox true", "create --ipc container:nosuch busybox true"])
def test_whose_processes_are_shared_must_be_there(hosts: tuple[DockerHost, DockerHost], command: str) -> None:
    docker, teul = (outcome(host, command) for host in hosts)
    assert teul == docker == (1, "Error response from daemon: No such container: nosuch")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--pid container:still", "failed to join PID namespace: container <id> is not running"),
        ("--ipc container:still", "failed to join IPC namespace: container <id> is not running"),
        (
            "--ipc container:box",
            "failed to join IPC namespace: container <id>: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
        ),
        ("--network container:still", "cannot join network namespace of a non running container: container still is created"),
        ("--network container:nosuch", "No such container: nosuch"),
        ("--network container:own --name own", "cannot join own network namespace"),
    ],
)
def test_whose_namespace_cannot_be_joined(hosts: tuple[DockerHost, DockerHost], options: str, words: str) -> None:
    """In the words of today's Docker; both fail."""
    seen = []
    for host in hosts:
        seen.append(outcome(host, f"run {options} busybox true"))
        host.docker("rm", "-f", "own")
    assert seen[0][0] == seen[1][0] == 125
    assert seen[1][1] == f"Error response from daemon: {words}"
