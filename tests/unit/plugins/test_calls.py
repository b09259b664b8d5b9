"""What a plug-in is sent, and what becomes of its answers: good ones, refusals, nonsense, too much, and none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.volume_plugin import VolumePlugin as Program
from teul.plugins import client as clients
from teul.plugins import registry, volume_driver
from teul.plugins.discovery import PluginDirectories
from teul.plugins.errors import PluginNotFound, PluginRefused, PluginUnreachable, PluginUnusable
from teul.plugins.registry import Plugins
from teul.plugins.volume_driver import KIND, PluginVolume, VolumePlugin

ACTIVATE, GET, MOUNT = "Plugin.Activate", "VolumeDriver.Get", "VolumeDriver.Mount"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with Program("store", tmp_path) as program:
        yield program


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a quarter of a minute for what will not come."""
    monkeypatch.setattr(registry, "_LOOKING_SECONDS", 0.02)
    monkeypatch.setattr(registry, "_LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(clients, "_PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(clients, "_FIRST_DELAY_SECONDS", 0.01)


def plugins(program: Program) -> Plugins:
    return Plugins(PluginDirectories((str(program.base),), (str(program.base),)))


async def driver(program: Program) -> VolumePlugin:
    return VolumePlugin(await plugins(program).get("store", KIND))


def says(value: object, status: int = 200) -> tuple[int, bytes]:
    return status, json.dumps(value).encode()


async def test_handshake_happens_once_and_as_docker_has_it(program: Program) -> None:
    known = plugins(program)
    first = await known.get("store", KIND)
    assert await known.get("store", KIND) is first
    assert await known.all(KIND) == [first]
    [call] = program.calls
    assert (call.method, call.arguments) == (ACTIVATE, {})
    assert call.headers["Accept"] == "application/vnd.docker.plugins.v1.2+json"
    assert call.headers["Host"] == "plugin.moby.localhost"
    assert call.headers["Content-Length"] == "0"
    assert "Content-Type" not in call.headers


async def test_every_call_has_dockers_arguments(program: Program) -> None:
    volumes = await driver(program)
    await volumes.create("v", {"k": "1"})
    await volumes.create("w", None)
    where = await volumes.mount("v", "me")
    assert where == str(program.directory("v"))
    got = await volumes.get("v")
    assert got == PluginVolume(name="v", mountpoint=where, created_at="2024-05-06T07:08:09Z", status={"used": 1})
    assert [volume.name for volume in await volumes.list()] == ["v", "w"]
    assert [await volumes.scope(), await volumes.scope()] == ["global", "global"]
    await volumes.unmount("v", "me")
    await volumes.remove("v")
    assert [(call.method.removeprefix("VolumeDriver."), call.arguments) for call in program.calls[1:]] == [
        ("Create", {"Name": "v", "Opts": {"k": "1"}}),
        ("Create", {"Name": "w", "Opts": None}),
        ("Mount", {"Name": "v", "ID": "me"}),
        ("Get", {"Name": "v"}),
        ("List", {}),
        ("Capabilities", {}),
        ("Unmount", {"Name": "v", "ID": "me"}),
        ("Remove", {"Name": "v"}),
    ]


async def test_names_of_fields_match_in_any_case(program: Program) -> None:
    program.answers[MOUNT] = says({"mountPOINT": "/here"})
    assert await (await driver(program)).mount("v", "me") == "/here"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says({"Err": "it is full"}), "^it is full$"),
        (says({"Err": "it is full"}, 500), "^VolumeDriver.Get: it is full$"),
        ((500, b"what?"), r"^VolumeDriver.Get: what\?$"),
        (says({"Volume": {"Name": 5}}), "^VolumeDriver.Get: invalid JSON: "),
        ((200, b""), "^VolumeDriver.Get: invalid JSON: got EOF"),
        ((200, b"[]"), "^VolumeDriver.Get: invalid JSON: json: cannot unmarshal array into Go value of type "),
        ((200, b"[" * 100_000), "^VolumeDriver.Get: invalid JSON: "),
        ((302, b"elsewhere"), "^VolumeDriver.Get: elsewhere$"),
        (says({"Volume": {"Name": "v", "Mountpoint": "relative"}}), "'relative', which is no absolute path$"),
        (says({"Volume": {"Name": "v", "Mountpoint": "/a/../../b"}}), "which is no absolute path$"),
    ],
)
async def test_answers_that_are_none_are_told_as_docker_does(program: Program, answer: tuple[int, bytes], told: str) -> None:
    volumes = await driver(program)
    program.answers[GET] = answer
    with pytest.raises(PluginRefused, match=told):
        await volumes.get("v")


async def test_answer_that_is_too_large_is_not_read_to_its_end(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_ANSWER_BYTES", 1000)
    volumes = await driver(program)
    program.answers[GET] = says({"Volume": {"Name": "v", "Status": {"x": "y" * 2000}}})
    with pytest.raises(PluginRefused, match=r"^VolumeDriver\.Get: the answer has more than 1000 bytes$"):
        await volumes.get("v")


@pytest.mark.parametrize("mountpoint", ["", "here", "/a/..", "/a\0b"])
async def test_mount_that_is_nowhere_is_refused(program: Program, mountpoint: str) -> None:
    program.answers[MOUNT] = says({"Mountpoint": mountpoint})
    volumes = await driver(program)
    with pytest.raises(PluginRefused, match="volume plugin store "):
        await volumes.mount("v", "me")


async def test_silence_ends(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_driver, "_SHORT_SECONDS", 0.05)
    volumes = await driver(program)
    program.silent.add(GET)
    with pytest.raises(PluginUnreachable) as failure:
        await volumes._call("Get", {"Name": "v"}, volume_driver._Got, seconds=0.05)
    assert failure.value.message == 'Post "http://plugin.moby.localhost/VolumeDriver.Get": context deadline exceeded'


async def test_plugin_that_died_is_told_of_as_docker_does(program: Program) -> None:
    volumes = await driver(program)
    program.leave()
    with pytest.raises(PluginUnreachable) as failure:
        await volumes.get("v")
    where = f"dial unix {program.path}: connect: no such file or directory"
    assert failure.value.message == f'Post "http://plugin.moby.localhost/VolumeDriver.Get": {where}'


async def test_plugin_that_dies_in_the_middle_is_asked_again_when_it_is_back(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_PATIENCE_SECONDS", 10.0)
    volumes = await driver(program)
    await volumes.create("v", None)
    program.silent.add(GET)

    def restart() -> None:
        program.leave()
        program.come_back()

    restarting = threading.Thread(target=restart)

    def die() -> None:
        program.before.clear()
        program.silent.clear()
        restarting.start()

    program.before[GET] = die
    program.answers[GET] = says({"Volume": {"Name": "v"}})
    assert (await volumes.get("v")) is not None
    restarting.join()


async def test_plugin_that_comes_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_LOOKING_SECONDS", 10.0)
    program = Program("store", tmp_path)
    (tmp_path / "volumes").mkdir()
    timer = threading.Timer(0.05, program.come_back)
    timer.start()
    try:
        assert (await plugins(program).get("store", KIND)).name == "store"
    finally:
        timer.join()
        program.leave()


async def test_plugin_that_never_comes_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(PluginNotFound) as failure:
        await plugins(Program("store", tmp_path)).get("store", KIND)
    assert failure.value.message == 'plugin "store" not found'


async def test_plugin_of_another_kind_is_refused_and_not_listed(program: Program) -> None:
    program.answers[ACTIVATE] = says({"Implements": ["NetworkDriver"]})
    known = plugins(program)
    with pytest.raises(PluginUnusable) as failure:
        await known.get("store", KIND)
    told = 'Plugin does not implement the requested driver: plugin="store", requested implementation="VolumeDriver"'
    assert failure.value.message == f"legacy plugin: {told}"
    assert await known.all(KIND) == []


async def test_handshake_that_fails_is_tried_again_when_it_is_wanted_again(program: Program) -> None:
    known = plugins(program)
    program.answers[ACTIVATE] = says({}, 500)
    assert await known.all(KIND) == []
    with pytest.raises(PluginUnusable, match=r"^legacy plugin: Plugin\.Activate: "):
        await known.get("store", KIND)
    program.answers.clear()
    assert (await known.get("store", KIND)).name == "store"


async def test_socket_that_nobody_listens_to_is_told_of_as_docker_does(program: Program) -> None:
    known = plugins(program)
    program.leave()
    (program.base / "store.spec").write_text(f"unix://{program.path}")
    assert await known.all(KIND) == []
    with pytest.raises(PluginUnusable, match=r'^legacy plugin: Post "http://plugin\.moby\.localhost/Plugin\.Activate": dial unix '):
        await known.get("store", KIND)


@pytest.mark.parametrize(("said", "scope"), [("GLOBAL", "global"), ("", "local"), ("galaxy", "local")])
async def test_scope_is_local_or_global(program: Program, said: str, scope: str) -> None:
    program.scope = said
    assert await (await driver(program)).scope() == scope


async def test_plugin_without_capabilities_is_local(program: Program) -> None:
    program.answers["VolumeDriver.Capabilities"] = 404, b"not found"
    volumes = await driver(program)
    assert [await volumes.scope(), await volumes.scope()] == ["local", "local"]
    assert program.methods() == ["Activate", "Capabilities", "Capabilities"]


async def test_silent_handshake_is_waited_for_once_by_those_who_do_not_want_it(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_UNASKED_SECONDS", 0.05)
    known = plugins(program)
    program.silent.add(ACTIVATE)
    assert await known.all(KIND, quick=True) == []
    assert await known.all(KIND, quick=True) == []
    assert program.methods() == ["Activate"]
    assert await known.all(KIND) == []
    assert program.methods() == ["Activate", "Activate"]
    monkeypatch.setattr(registry, "_SILENCE_SECONDS", 0.0)
    known.note_silence("store")
    program.silent.clear()
    assert [plugin.name for plugin in await known.all(KIND, quick=True)] == ["store"]
