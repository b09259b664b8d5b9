"""What the engine makes of requests before it knows what they are about: paths, bodies, lengths."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.unix_http import Response
from unit.model.test_json_faults import FAULTS

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


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("./", "."),
        ("/./", "."),
        (".", "."),
        ("/etc/./", "."),
        ("etc/.", "."),
        ("/etc/", "etc"),
        ("/etc", "etc"),
        ("/./etc/passwd", "passwd"),
    ],
)
def test_an_archive_has_the_name_that_its_path_ends_in(hosts: tuple[DockerHost, DockerHost], path: str, first: str) -> None:
    seen = []
    for host in hosts:
        answer = ask(host, "GET", f"/containers/box/archive?path={path}")
        stat = json.loads(base64.b64decode(answer.headers["x-docker-container-path-stat"]))
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as members:
            seen.append((stat["name"], members.getnames()[:3]))
    assert seen[1] == seen[0]
    assert seen[1][1][0] == first


@pytest.mark.parametrize("text", [text for text in FAULTS if text.strip()], ids=lambda text: repr(text[:20]))
@pytest.mark.parametrize(
    "path", ["/containers/create", "/containers/box/exec", "/networks/create", "/volumes/create", "/commit?container=box"]
)
def test_what_is_no_json_is_refused_in_dockers_words(hosts: tuple[DockerHost, DockerHost], path: str, text: bytes) -> None:
    docker, teul = (ask(host, "POST", path, text) for host in hosts)
    # 20.10 does not say what is invalid, and answers 500 at some routes.
    assert (teul.status, teul.message) == (400, f"invalid JSON: {docker.message}")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/containers/create", b"", "invalid JSON: EOF"),
        ("/containers/create", b"{}", "config cannot be empty in order to create a container"),
        ("/containers/create", b'{"HostConfig":{}}', "config cannot be empty in order to create a container"),
        ("/containers/create", b'{"Image":"busybox"} x', "unexpected content after JSON"),
        ("/containers/box/exec", b"", "No exec command specified"),
        ("/containers/box/exec", b" ", "invalid JSON: got EOF while reading request body"),
        ("/containers/box/update", b"{} {}", "unexpected content after JSON"),
        ("/networks/create", b"{} x", "unexpected content after JSON"),
    ],
)
def test_bodies_that_say_nothing_and_too_much(hosts: tuple[DockerHost, DockerHost], path: str, body: bytes, message: str) -> None:
    """In the words of today's Docker; 20.10 takes what follows a document."""
    answer = ask(hosts[1], "POST", path, body)
    assert (answer.status, answer.message) == (400, message)


# The names of structs, packages and embedded structs.
_OF_GO = r"(?<=field )\w+\.|(?<=type )(runconfig|container)\.\w+(?=$)|\b(Config|Resources)\.(?=\w)"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/containers/create", {"Image": 5}),
        ("/containers/create", {"Image": "b", "Env": "x"}),
        ("/containers/create", {"Image": "b", "Labels": {"a": 1}}),
        ("/containers/create", {"Image": "b", "HostConfig": {"Memory": "x"}}),
        ("/containers/create", {"Image": "b", "HostConfig": {"Memory": 1.5}}),
        ("/containers/create", {"Image": "b", "HostConfig": {"BlkioWeight": 70000}}),
        ("/containers/create", {"Image": "b", "HostConfig": {"NetworkMode": 1}}),
        ("/containers/create", {"Image": "b", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": 80}]}}}),
        ("/containers/create", {"Image": "b", "Healthcheck": {"Interval": "1s"}}),
        ("/containers/create", []),
        ("/containers/box/exec", {"Cmd": 5}),
        ("/containers/box/update", {"Memory": "x"}),
        ("/networks/create", {"Name": 5}),
        ("/networks/bridge/connect", {"Container": 5}),
        ("/volumes/create", {"Name": 5}),
        ("/commit?container=box", {"Env": 5}),
    ],
)
def test_values_of_a_wrong_type_are_named_as_go_names_them(hosts: tuple[DockerHost, DockerHost], path: str, body: object) -> None:
    """Up to the names of Go's structs, and of those embedded in others, which are others today."""
    docker, teul = (ask(host, "POST", path, json.dumps(body).encode()).message for host in hosts)
    assert re.sub(_OF_GO, "", teul.removeprefix("invalid JSON: ")) == re.sub(_OF_GO, "", docker)


def test_a_bracket_too_many_is_taken(hosts: tuple[DockerHost, DockerHost]) -> None:
    for host in hosts:
        assert ask(host, "POST", "/containers/box/update", b'{"CpuShares":512}}').status == 200


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("DELETE", "/name")])
def test_checkpoints_are_no_part_of_a_containers_name(hosts: tuple[DockerHost, DockerHost], method: str, path: str) -> None:
    """Both refuse them: dockerd because it is told to be experimental first."""
    assert [ask(host, method, f"/containers/box/checkpoints{path}").status for host in hosts] == [501, 501]


@pytest.mark.parametrize("filters", [{"nosuch": ["x"]}, {"until": ["1h"]}, {"dangling": ["perhaps"]}])
def test_volumes_are_not_listed_by_unknown_filters(hosts: tuple[DockerHost, DockerHost], filters: dict[str, list[str]]) -> None:
    docker, teul = (ask(host, "GET", f"/volumes?filters={quote(json.dumps(filters))}") for host in hosts)
    # Today's Docker begins with a small letter.
    assert (teul.status, teul.message) == (docker.status, docker.message.replace("Invalid", "invalid"))


@pytest.mark.parametrize("length", [9_000, 70_000, 900_000])
def test_a_request_may_be_long(hosts: tuple[DockerHost, DockerHost], length: int) -> None:
    for host in hosts:
        assert ask(host, "GET", f"/_ping?filters={'x' * length}").status == 200
