"""Every answer is what the OpenAPI description says: its status is one of those described, and its document has the described shape."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from conformance.openapi.schemas import deviations
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.unix_http import Client, Response

pytestmark = [needs("root", "busybox", "overlayfs", "docker_cli")]

VERSION = "v1.51"
CONFIG: dict[str, Any] = {
    "Image": "busybox",
    "Cmd": ["sleep", "1000"],
    "Env": ["A=b"],
    "Labels": {"one": "two"},
    "ExposedPorts": {"80/tcp": {}},
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000, "Timeout": 1_000_000_000, "Retries": 2},
    "StopSignal": "SIGTERM",
    "StopTimeout": 3,
    "HostConfig": {
        "Binds": ["/tmp:/host:ro"],
        "Mounts": [{"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 448}}],
        "Tmpfs": {"/t": "size=1m"},
        "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 64}],
        "CapAdd": ["NET_ADMIN"],
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
        "Memory": 64 << 20,
        "PidsLimit": 100,
        "Init": True,
        "Annotations": {"note": "x"},
        "ExtraHosts": ["a:10.0.0.1"],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "r"}],
    },
}


class Judge:
    """A client that compares every answer with the description."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, method: str, template: str, body: Any = None, *, status: int = 200, query: str = "", **variables: str) -> Any:
        """Send a request to `template` with its variables filled in, and return the document of the answer, or its body."""
        path = template
        for name, value in variables.items():
            path = path.replace("{" + name + "}", quote(value, safe="/:"))
        response = self._client.request(method, f"{path}?{query}" if query else path, body)
        assert response.status == status, f"{method} {path}: {response.status} {response.message}"
        document = _document(response)
        found = deviations(method, template, status, document)
        assert not found, f"{method} {path}:\n" + "\n".join(found)
        return document


@pytest.fixture
def judge(engine: Engine) -> Iterator[Judge]:
    with engine.api(version=VERSION) as client:
        yield Judge(client)
    engine.remove_containers()


@pytest.fixture
def running(judge: Judge) -> str:
    """The id of a container that runs."""
    created = judge.ask("POST", "/containers/create", CONFIG, status=201, query="name=judged")
    judge.ask("POST", "/containers/{id}/start", status=204, id=created["Id"])
    return str(created["Id"])


def test_the_engine_as_a_whole(judge: Judge) -> None:
    assert judge.ask("GET", "/_ping") == "OK"
    judge.ask("GET", "/version")
    judge.ask("GET", "/info")


def test_life_of_a_container(judge: Judge) -> None:
    identifier = judge.ask("POST", "/containers/create", CONFIG, status=201)["Id"]
    judge.ask("GET", "/containers/{id}/json", id=identifier)
    judge.ask("POST", "/containers/{id}/start", status=204, id=identifier)
    judge.ask("POST", "/containers/{id}/start", status=304, id=identifier)
    judge.ask("GET", "/containers/{id}/json", id=identifier, query="size=1")
    judge.ask("POST", "/containers/{id}/pause", status=204, id=identifier)
    judge.ask("GET", "/containers/{id}/json", id=identifier)
    judge.ask("POST", "/containers/{id}/unpause", status=204, id=identifier)
    judge.ask("POST", "/containers/{id}/rename", status=204, id=identifier, query="name=another")
    judge.ask("POST", "/containers/{id}/restart", status=204, id=identifier, query="t=0")
    judge.ask("POST", "/containers/{id}/kill", status=204, id=identifier)
    assert judge.ask("POST", "/containers/{id}/wait", id=identifier)["StatusCode"] == 137
    judge.ask("POST", "/containers/{id}/stop", status=304, id=identifier)
    judge.ask("GET", "/containers/{id}/json", id=identifier)
    judge.ask("DELETE", "/containers/{id}", status=204, id=identifier, query="v=1")


def test_lists_of_containers(judge: Judge, running: str) -> None:
    judge.ask("POST", "/containers/create", {"Image": "busybox"}, status=201)
    assert len(judge.ask("GET", "/containers/json", query="all=1&size=1")) == 2
    assert [one["Id"] for one in judge.ask("GET", "/containers/json")] == [running]


def test_processes_and_output(judge: Judge, running: str) -> None:
    assert judge.ask("GET", "/containers/{id}/top", id=running)["Processes"]
    judge.ask("GET", "/containers/{id}/logs", id=running, query="stdout=1&stderr=1")


def test_health(judge: Judge, running: str) -> None:
    health = eventually(lambda: _probed(judge, running), "the first probe")
    assert health["Status"] == "healthy"


def test_usage_and_limits(judge: Judge, running: str) -> None:
    assert judge.ask("GET", "/containers/{id}/stats", id=running, query="stream=0")["pids_stats"]["current"] >= 1
    assert judge.ask("GET", "/containers/{id}/stats", id=running, query="stream=0&one-shot=1")["memory_stats"]["limit"] == 64 << 20
    judge.ask("POST", "/containers/{id}/update", {"Memory": 48 << 20, "MemorySwap": 48 << 20}, id=running)
    assert judge.ask("GET", "/containers/{id}/json", id=running)["HostConfig"]["Memory"] == 48 << 20


def test_files(judge: Judge, running: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("new"))
    judge.ask("PUT", "/containers/{id}/archive", archive.getvalue(), id=running, query="path=/root")
    judge.ask("HEAD", "/containers/{id}/archive", id=running, query="path=/root/new")
    judge.ask("GET", "/containers/{id}/archive", id=running, query="path=/root/new")
    judge.ask("GET", "/containers/{id}/archive", status=404, id=running, query="path=/none")
    judge.ask("GET", "/containers/{id}/archive", status=400, id=running)
    assert {"Path": "/root/new", "Kind": 1} in judge.ask("GET", "/containers/{id}/changes", id=running)
    judge.ask("GET", "/containers/{id}/export", id=running)


def test_exec(judge: Judge, running: str) -> None:
    config = {"Cmd": ["echo", "hello"], "AttachStdout": True, "User": "0", "Env": ["X=y"], "WorkingDir": "/"}
    identifier = judge.ask("POST", "/containers/{id}/exec", config, status=201, id=running)["Id"]
    judge.ask("GET", "/exec/{id}/json", id=identifier)
    judge.ask("POST", "/exec/{id}/start", {"Detach": True}, id=identifier)
    judge.ask("GET", "/exec/{id}/json", id=identifier)
    judge.ask("POST", "/exec/{id}/start", {"Detach": True}, status=404, id="no-such")


def test_images(judge: Judge) -> None:
    assert len(judge.ask("GET", "/images/json", query="shared-size=1")) >= 2
    for name in ("busybox", "judge/layers:1"):
        judge.ask("GET", "/images/{name}/json", name=name)
        judge.ask("GET", "/images/{name}/history", name=name)
    judge.ask("POST", "/images/{name}/tag", status=201, name="busybox", query="repo=copy&tag=1")
    assert judge.ask("DELETE", "/images/{name}", name="copy:1") == [{"Untagged": "copy:1"}]
    judge.ask("POST", "/images/prune")


def test_networks(judge: Judge, running: str) -> None:
    for network in judge.ask("GET", "/networks"):
        judge.ask("GET", "/networks/{id}", id=network["Id"])
    assert running in judge.ask("GET", "/networks/{id}", id="bridge")["Containers"]
    judge.ask("POST", "/networks/prune")
    judge.ask("DELETE", "/networks/{id}", status=403, id="bridge")


def test_volumes(judge: Judge) -> None:
    judge.ask("GET", "/volumes")
    judge.ask("GET", "/volumes/{name}", status=404, name="no-such")


def test_disk_usage(judge: Judge, running: str) -> None:
    document = judge.ask("GET", "/system/df")
    assert [one["Id"] for one in document["Containers"]] == [running]
    judge.ask("GET", "/system/df", query="type=image")


def test_events(judge: Judge, engine: Engine, running: str) -> None:
    judge.ask("POST", "/containers/{id}/kill", status=204, id=running)
    judge.ask("POST", "/containers/{id}/wait", id=running)
    with engine.api(version=VERSION) as client:
        body = client.expect(200, "GET", f"/events?since=0&until={int(time.time()) + 1}").body
    events = [json.loads(line) for line in body.splitlines()]
    assert {"create", "start", "kill", "die"} <= {event["Action"] for event in events}
    for event in events:
        assert not deviations("GET", "/events", 200, event), event


@pytest.mark.parametrize(
    ("method", "template", "body", "status"),
    [
        ("GET", "/containers/{id}/json", None, 404),
        ("GET", "/containers/{id}/top", None, 404),
        ("POST", "/containers/{id}/start", None, 404),
        ("POST", "/containers/{id}/stop", None, 404),
        ("POST", "/containers/{id}/kill", None, 404),
        ("POST", "/containers/{id}/wait", None, 404),
        ("DELETE", "/containers/{id}", None, 404),
        ("POST", "/containers/{id}/exec", {"Cmd": ["true"]}, 404),
        ("GET", "/containers/{id}/stats", None, 404),
        ("GET", "/containers/{id}/changes", None, 404),
        ("GET", "/containers/{id}/export", None, 404),
        ("POST", "/containers/{id}/update", {"Memory": 64 << 20}, 404),
        ("POST", "/containers/create", {"Image": "no-such"}, 404),
        ("POST", "/containers/create", {"Image": "busybox", "WorkingDir": "relative"}, 400),
        ("GET", "/images/{name}/json", None, 404),
        ("GET", "/images/{name}/history", None, 404),
        ("DELETE", "/images/{name}", None, 404),
        ("GET", "/networks/{id}", None, 404),
    ],
)
def test_errors_are_documents_with_a_message(judge: Judge, method: str, template: str, body: Any, status: int) -> None:
    answer = judge.ask(method, template, body, status=status, id="no-such", name="no-such")
    assert list(answer) == ["message"]


def test_attach_upgrades(engine: Engine, judge: Judge, running: str) -> None:
    with engine.api(version=VERSION) as client:
        stream = client.hijack("POST", f"/containers/{running}/attach?stream=1&stdout=1")
        stream.shutdown(socket.SHUT_WR)
        stream.close()


def _probed(judge: Judge, container: str) -> Any:
    """The container's health once a probe has ended, or None."""
    health = judge.ask("GET", "/containers/{id}/json", id=container)["State"]["Health"]
    return health if health["Log"] else None


def _document(response: Response) -> Any:
    """JSON where the answer says that it is, else text."""
    is_json = response.headers.get("content-type", "").startswith("application/json") and response.body
    return response.json() if is_json else response.body.decode(errors="replace")
