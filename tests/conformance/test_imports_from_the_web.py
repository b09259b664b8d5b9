"""`docker import URL`: the engine fetches the archive itself, and says of it what dockerd says: statuses, lines and texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.web_server import web_server

pytestmark = [needs("root", "dockerd", "docker_cli", "overlayfs")]

ADDRESSES = [
    *("http://{}/" + path for path in ("ok", "nolength", "moved", "loop", "file", "nosuch")),
    *("http://{}/status" + str(status) for status in (400, 401, 403, 404, 418, 429, 500, 503)),
    "{}/ok",
    "HTTP://{}/ok?query#fragment",
    "http://127.0.0.1:1/x",
    "http://user:secret@127.0.0.1:1/x",
    "http://user@127.0.0.1:1/x",
    "ftp://127.0.0.1/x",
    "file:///etc/passwd",
    "http://[::1",
    "http://[::1]x/",
    "://x",
    "http://",
    "http:///x",
    "http://a b/c",
    "http://{}/%zz",
    "http://127.0.0.1:99999/x",
    "http://127.0.0.1:port/x",
    "http://{}/\x01",
    "-x",
    "",
]


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[tuple[DockerHost, str]]]:
    """Both engines, each with the address of a server that it can reach."""
    with Dockerd() as dockerd, web_server(network_of=dockerd.pid) as there, Engine() as engine, web_server() as here:
        yield [(dockerd, there), (engine, here)]


def answer(host: DockerHost, server: str, query: str) -> tuple[int, list[Any]]:
    """The status and the lines, without what differs from run to run: the server's port, image ids, how far it was in between."""
    with host.api() as api:
        response = api.request("POST", f"/images/create?{query}")
    text = response.body.decode().replace(server, "HOST")
    text = re.sub(r"sha256:[0-9a-f]{64}", "<id>", text)
    lines = [json.loads(line) for line in text.splitlines()]
    return response.status, [line for line in lines if line.get("progressDetail", {}).get("current") in {None, 204_800}]


@pytest.mark.parametrize("address", ADDRESSES)
def test_both_say_the_same(hosts: list[tuple[DockerHost, str]], address: str) -> None:
    docker, teul = (answer(host, server, "fromSrc=" + quote(address.format(server), safe="")) for host, server in hosts)
    assert teul == docker
    assert teul[0] != 200 or str(teul[1][0]["status"]).startswith("Downloading from http://HOST/")


@pytest.mark.parametrize(
    ("address", "query", "error"),
    [
        ("short", "", "unexpected EOF"),
        ("bad", "", "archive/tar: invalid tar header"),
        ("ok", "&changes=NONSENSE", "NONSENSE is not a valid change command"),
        ("ok", "&platform=windows", 'operating system "windows" is not supported'),
    ],
)
def test_what_goes_wrong_later_is_told_in_band(hosts: list[tuple[DockerHost, str]], address: str, query: str, error: str) -> None:
    """In the words of the newest dockerd; the one here wraps some of them, and looks at what is to be changed first."""
    for host, server in hosts if not query else hosts[1:]:
        status, lines = answer(host, server, f"fromSrc={quote(f'http://{server}/{address}', safe='')}{query}")
        assert (status, lines[0]) == (200, {"status": f"Downloading from http://HOST/{address}"})
        assert lines[-1]["error"] == lines[-1]["errorDetail"]["message"]
        if isinstance(host, Engine):
            assert lines[-1]["error"] == error


@pytest.mark.parametrize("query", ["&repo=Upper", "&repo=x&tag=!", "&platform=a/b/c/d"])
def test_what_is_wrong_with_the_order_comes_first(hosts: list[tuple[DockerHost, str]], query: str) -> None:
    for host, server in hosts:
        assert answer(host, server, f"fromSrc=http://127.0.0.1:1/x{query}")[0] == 400


def test_both_commands(hosts: list[tuple[DockerHost, str]]) -> None:
    shown = []
    for host, server in hosts:
        for address in (f"http://{server}/ok", f"http://{server}/nolength", f"http://{server}/status404", f"{server}/ok"):
            output = host.docker("import", "-c", "CMD true", address, "web:1")
            text = re.sub(r"sha256:[0-9a-f]{64}", "<id>", (output.stdout + output.stderr).replace(server, "HOST"))
            shown.append((output.exit_code, text))
    assert shown[4:] == shown[:4]
    engine, server = hosts[1]
    assert isinstance(engine, Engine)
    assert [
        (output.exit_code, re.sub(r"sha256:[0-9a-f]{64}", "<id>", output.stdout + output.stderr).replace(server, "HOST"))
        for output in (engine.teul("import", f"http://{server}/{path}") for path in ("ok", "nolength", "status404"))
    ] == shown[:3]
    with engine.api() as api:
        [history] = api.expect(200, "GET", "/images/web:1/history").json()
    assert history["Comment"] == f"Imported from http://{server}/nolength"
    assert engine.inspect("web:1")["Config"]["Cmd"] == ["/bin/sh", "-c", "true"]


def test_a_password_is_told_to_nobody(hosts: list[tuple[DockerHost, str]]) -> None:
    """dockerd shows it, and keeps it in the history."""
    engine, server = hosts[1]
    with engine.api() as api:
        response = api.expect(200, "POST", "/images/create?repo=hidden&fromSrc=" + quote(f"http://me:secret@{server}/ok", safe=""))
        history = api.expect(200, "GET", "/images/hidden/history").json()
    assert b"secret" not in response.body
    assert history[0]["Comment"] == f"Imported from http://me:***@{server}/ok"
