"""What the engine makes of requests before it knows what they are about: paths, bodies, lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.unix_http import Response

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[DockerHost, DockerHost]]:
    with Dockerd() as dockerd, Engine() as engine:
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
            host.must("run", "-d", "--name", "box", "busybox", "sleep", "100000")
        yield dockerd, engine


def ask(host: DockerHost, method: str, path: str, body: Any = None) -> Response:
    with host.api(version="") as api:
        return api.request(method, path, body)


@pytest.mark.parametrize(
    ("method", "path", "location"),
    [
        ("GET", "//_ping", "/_ping"),
        ("HEAD", "//_ping", "/_ping"),
        ("GET", "//", "/"),
        ("GET", "/v1.41//_ping?a=//b", "/v1.41/_ping?a=//b"),
        ("GET", "/v1.41/containers/../_ping", "/v1.41/_ping"),
        ("GET", "/containers//box/json", "/containers/box/json"),
        ("GET", "/containers/%2Fbox/json", "/containers/box/json"),
        ("GET", "/containers/./box/json", "/containers/box/json"),
        ("GET", "/containers/%2Fbox!%20(1)/json?a=b%20c", "/containers/box%21%20%281%29/json?a=b%20c"),
        ("POST", "/containers/box//stop", "/containers/box/stop"),
        ("POST", "//containers/create?name=x", "/containers/create?name=x"),
        ("DELETE", "/containers//box", "/containers/box"),
        ("GET", "/networks//", "/networks/"),
    ],
)
def test_a_path_that_is_not_clean_leads_to_the_one_that_is(
    hosts: tuple[DockerHost, DockerHost], method: str, path: str, location: str
) -> None:
    for host in hosts:
        answer = ask(host, method, path)
        assert (answer.status, answer.headers.get("location"), answer.body) == (301, location, b"")


@pytest.mark.parametrize("path", ["/containers/.hidden/json", "/containers/a..b/json", "/_ping?a=//../b"])
def test_a_path_with_dots_in_its_names_is_clean(hosts: tuple[DockerHost, DockerHost], path: str) -> None:
    docker, teul = (ask(host, "GET", path) for host in hosts)
    assert (teul.status, teul.body) == (docker.status, docker.body)
    assert teul.status in {200, 404}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/containers/"),
        ("DELETE", "/images/"),
        ("DELETE", "/volumes/"),
        ("GET", "/volumes/"),
        ("GET", "/containers/"),
        ("GET", "/containers/json/"),
        ("GET", "/_ping/"),
    ],
)
def test_a_slash_at_the_end_is_a_name_of_no_letters(hosts: tuple[DockerHost, DockerHost], method: str, path: str) -> None:
    docker, teul = (ask(host, method, path) for host in hosts)
    assert (teul.status, teul.json()) == (docker.status, docker.json())
    assert teul.status in {400, 404}


def test_networks_are_listed_with_a_slash_at_the_end_as_well(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        with host.api() as api:
            assert {network["Name"] for network in api.expect(200, "GET", "/networks/").json()} == {"none", "host", "bridge"}
