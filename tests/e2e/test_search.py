"""Searching a registry with the docker command, docker-py and Teul's own."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from support.engine import Engine
from support.registry import FakeRegistry, serving

TABLE = [
    ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"],
    ["busybox", "small", "7", "[OK]"],
    ["busy/bee", "0"],
]


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with serving(FakeRegistry()) as registry:
        registry.repositories = [
            {"name": "busybox", "description": "small", "star_count": 7, "is_official": True, "is_automated": True},
            {"name": "busy/bee"},
            {"name": "other"},
        ]
        yield registry


def test_both_commands_show_the_same(engine: Engine, registry: FakeRegistry) -> None:
    shown = engine.must("search", f"{registry.host}/busy")
    assert [line.split() for line in shown.splitlines()] == TABLE
    own = engine.teul("search", f"{registry.host}/busy")
    assert (own.exit_code, own.stdout, own.stderr) == (0, shown + "\n", "")
    official = engine.must("search", "--filter", "is-official=true", "--format", "{{.Name}} {{.StarCount}}", f"{registry.host}/bus")
    assert official == "busybox 7"
    assert engine.must("search", "--limit", "1", "--format", "{{.Name}}", f"{registry.host}/bus") == "busybox"


def test_both_commands_say_what_is_wrong(engine: Engine, registry: FakeRegistry) -> None:
    registry.behaviour.error = (404, "text/plain", b"404 page not found\n")
    for told in (engine.docker("search", f"{registry.host}/x"), engine.teul("search", f"{registry.host}/x")):
        assert (told.exit_code, told.stderr) == (1, "Error response from daemon: Unexpected status code 404\n")
    for told in (engine.docker("search", "127.0.0.1:1/x"), engine.teul("search", "127.0.0.1:1/x")):
        assert told.exit_code == 1
        assert told.stderr.startswith('Error response from daemon: invalid registry endpoint "http://127.0.0.1:1/v1/". HTTPS attempt: ')


def test_docker_py_finds_it_too(engine: Engine, registry: FakeRegistry) -> None:
    client = docker.DockerClient(base_url=f"unix://{engine.socket_path}")
    try:
        assert [found["name"] for found in client.images.search(f"{registry.host}/busy")] == ["busybox", "busy/bee"]
    finally:
        client.close()
