"""The engine that the command line's tests are written against: it answers as a real one does, and its documents are of the same make."""

from __future__ import annotations

import inspect
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.witness import Witness
from support import images
from support.engine import Engine
from support.needs import needs
from teul.client.address import Address
from teul.client.api import Client
from teul.client.connection import HijackedStream
from teul.client.errors import ApiError
from teul.wire.stdcopy import Demultiplexer
from unit.cli import fake_engine
from unit.cli.commands import test_commands as commands
from unit.cli.commands import test_resources as resources
from unit.cli.commands import test_run as running
from unit.cli.fake_engine import FakeEngine, empty, failure, frame, hijacked, reply, stream

ONCE = {"Image": "busybox", "Cmd": ["sh", "-c", "cat; echo error >&2"], "OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
OUTPUT = frame(1, b"input\n") + frame(2, b"error\n")
ATTACH = {"stream": True, "stdin": True, "stdout": True, "stderr": True}
REFUSED = b"No such container: nosuch\r\n"
ROUTES = {
    "POST /containers/create": reply({"Id": running.ID, "Warnings": []}, 201),
    "GET /containers/nosuch/json": failure(404, "No such container: nosuch"),
    "POST /containers/box/start": [empty(), empty(304)],
    "POST /containers/box/attach": hijacked(OUTPUT, wait_for_end_of_input=True),
    "POST /containers/box/wait": reply({"StatusCode": 0}),
    "GET /containers/box/logs": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(OUTPUT), OUTPUT),
    "POST /containers/nosuch/attach": b"HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(REFUSED), REFUSED),
    "POST /images/load": stream({"stream": "Loaded image: busybox:latest\n"}),
    "DELETE /containers/box": empty(),
}


@pytest.fixture(params=["fake", pytest.param("real", marks=needs("root", "busybox"))])
def client(request: pytest.FixtureRequest, witness: Witness, tmp_path: Path) -> Iterator[Client]:
    """The command line's own client, of an engine without containers."""
    if request.param == "fake":
        with FakeEngine(tmp_path, {name: list(answer) if isinstance(answer, list) else answer for name, answer in ROUTES.items()}) as fake:
            yield from connected(witness.watch(fake).path)
        return
    engine: Engine = request.getfixturevalue("real_engine")
    yield from connected(str(engine.socket_path))
    engine.remove_containers()


def connected(path: str) -> Iterator[Client]:
    client = Client(Address(path=path))
    yield client
    client.close()


def drain(stream: HijackedStream) -> bytes:
    data = stream.leftover
    while piece := stream.socket.recv(65536):
        data += piece
    stream.socket.close()
    return data


def test_a_document_says_that_it_is_json(client: Client) -> None:
    response = client.send("POST", "/containers/create", {"name": "box"}, ONCE)
    assert (response.status, response.headers["content-type"]) == (201, "application/json")
    document = json.loads(response.read())
    assert (list(document), len(document["Id"]), document["Warnings"]) == (["Id", "Warnings"], 64, [])


@pytest.mark.parametrize(
    ("method", "path", "upgrade", "kind"),
    [("GET", "json", False, "application/json"), ("POST", "attach", True, "application/vnd.docker.raw-stream")],
)
def test_a_refusal_has_a_message(client: Client, method: str, path: str, upgrade: bool, kind: str) -> None:
    """In a document, or in plain text where there would be a stream."""
    response = client.send(method, f"/containers/nosuch/{path}", ATTACH if upgrade else None, upgrade=upgrade)
    assert (response.status, response.headers["content-type"], response.upgraded) == (404, kind, False)
    body = response.read()
    assert body == REFUSED if upgrade else json.loads(body) == {"message": "No such container: nosuch"}
    response.close()
    with pytest.raises(ApiError, match=r"^No such container: nosuch$") as caught:
        client.call(method, f"/containers/nosuch/{path}")
    assert caught.value.status == 404


def test_what_has_nothing_to_say_has_no_body(client: Client) -> None:
    client.post("/containers/create", {"name": "box"}, ONCE)
    for status in (204, 304):
        response = client.send("POST", "/containers/box/start")
        assert (response.status, response.read()) == (status, b"")
    assert client.delete("/containers/box?force=1") is None


def test_a_hijacked_connection_goes_both_ways_and_ends(client: Client) -> None:
    """From the attach before the start to the log after the end."""
    client.post("/containers/create", {"name": "box"}, ONCE)
    response = client.stream("POST", "/containers/box/attach", ATTACH, upgrade=True)
    assert (response.status, response.upgraded) == (101, True)
    assert {name: response.headers[name].lower() for name in ("connection", "upgrade")} == {"connection": "upgrade", "upgrade": "tcp"}
    taken = response.hijack()
    client.post("/containers/box/start")
    taken.socket.sendall(b"input\n")
    taken.close_write()
    assert Demultiplexer().feed(drain(taken)) == [(1, b"input\n"), (2, b"error\n")]
    assert client.post("/containers/box/wait") == {"StatusCode": 0}
    log = client.stream("GET", "/containers/box/logs", {"stdout": True, "stderr": True}).read()
    assert sorted(Demultiplexer().feed(log)) == [(1, b"input\n"), (2, b"error\n")]


def test_a_stream_is_a_document_a_line(client: Client) -> None:
    body = io.BytesIO(images.busybox().docker_archive())
    response = client.send("POST", "/images/load", {"quiet": True}, iter(lambda: body.read(1 << 20), b""), alone=True)
    assert (response.status, response.headers["content-type"], response.headers["transfer-encoding"]) == (
        200,
        "application/json",
        "chunked",
    )
    *lines, rest = response.read().split(b"\r\n")
    assert ([json.loads(line) for line in lines], rest) == ([{"stream": "Loaded image: busybox:latest\n"}], b"")
    response.close()


# -- documents

# Members with names of the user's or the host's making: any of the real ones will do.
MAPS = {"Labels", "Attributes", "Networks", "networks", "IndexConfigs", "Runtimes", "Details"}
# What another engine or kernel has: dockerd tells pools that were configured, cgroup v2 knows no totals.
ELSEWHERE = {"info": {".DefaultAddressPools"}, "stats": {".memory_stats.stats.total_inactive_file"}}
DOCUMENTS: list[tuple[str, str, Any]] = [
    ("containers", "/containers/json?all=1&size=1", [commands.CONTAINER]),
    ("container", "/containers/box/json", running.container()),
    ("labels", "/containers/box/json", {"Id": "1", "Config": {"Labels": {}}, "State": {"Running": True}}),
    ("images", "/images/json", [commands.IMAGE]),
    ("history", "/images/busybox/history", commands.LAYERS),
    ("top", "/containers/box/top", commands.TOP),
    ("version", "/version", commands.SERVER),
    ("info", "/info", commands.INFO),
    ("stats", "/containers/box/stats?stream=0&one-shot=1", resources.sample()),
    ("stats of none", "/containers/ended/stats?stream=0&one-shot=1", resources.STOPPED),
    ("exec", "/exec/{exec}/json", {"ExitCode": 9}),
    ("events", "/events?since=0&until={now}&filters=%7B%22type%22:%5B%22container%22%5D%7D", commands.EVENT),
]


def unlike(fake: Any, real: Any, where: str = "", *, is_map: bool = False) -> Iterator[str]:
    """Where `fake` has a member that `real` has not, or a value of another type. Nothing is known of what is null or empty."""
    if fake is None or real is None or (isinstance(real, (dict, list)) and not real):
        return
    if isinstance(fake, dict) and isinstance(real, dict):
        for name, value in fake.items():
            if is_map:
                yield from unlike(value, next(iter(real.values())), f"{where}.*")
            elif name not in real:
                yield f"{where}.{name}"
            else:
                yield from unlike(value, real[name], f"{where}.{name}", is_map=name in MAPS)
    elif isinstance(fake, list) and isinstance(real, list):
        for value in fake:
            # One of the real ones has to be like it.
            yield from min((list(unlike(value, other, f"{where}[]")) for other in real), key=len)
    elif type(fake) is not type(real):
        yield f"{where}: {type(fake).__name__} is {type(real).__name__}"


@pytest.fixture(scope="module")
def real(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """Asks an engine with a container that runs and one that has ended."""
    engine: Engine = request.getfixturevalue("real_engine")
    with engine.api(version="") as api:
        binds = {"HostConfig": {"Binds": ["/proc:/mnt"]}}
        api.expect(201, "POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": ["sleep", "60"], "Labels": {"a": "1"}, **binds})
        api.expect(201, "POST", "/containers/create?name=ended", {"Image": "busybox", "Cmd": ["true"]})
        for name in ("box", "ended"):
            api.expect(204, "POST", f"/containers/{name}/start")
        api.expect(200, "POST", "/containers/ended/wait")
        exec_id = api.expect(201, "POST", "/containers/box/exec", {"Cmd": ["true"]}).json()["Id"]
        with api.hijack("POST", f"/exec/{exec_id}/start", {}) as attached:
            assert attached.recv(1) == b""

        def ask(path: str) -> Any:
            return api.expect(200, "GET", path.replace("{exec}", exec_id).replace("{now}", str(int(time.time()) + 1)))

        yield ask
    engine.remove_containers()


@needs("root", "busybox")
@pytest.mark.parametrize(("name", "path", "document"), DOCUMENTS, ids=[name for name, _, _ in DOCUMENTS])
def test_documents_have_members_that_real_ones_have(real: Callable[[str], Any], name: str, path: str, document: Any) -> None:
    response = real(path)
    answer = json.loads(response.body.splitlines()[0]) if name == "events" else response.json()
    assert set(unlike(document, answer)) <= ELSEWHERE.get(name, set())


def test_every_kind_of_answer_is_held_to_the_contract(whole_suite: Witness) -> None:
    makers = {name for name, value in vars(fake_engine).items() if inspect.isfunction(value) and value.__module__ == fake_engine.__name__}
    assert {name for name in makers if name[0] != "_"} == {"empty", "failure", "frame", "hijacked", "reply", "stream"}
    assert whole_suite.uncalled(FakeEngine) == {"made"}, "by which unit tests look at what was asked"
