"""Volumes of a plug-in that dies, keeps silent, loses what it had, or has what nobody made here."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.volume_plugin import VolumePlugin

pytestmark = [needs("root", "busybox", "overlayfs")]

HURRY = {
    "teul.plugins.registry._LOOKING_SECONDS": 0.3,
    "teul.plugins.client._PATIENCE_SECONDS": 0.3,
    "teul.plugins.volume_driver._SURVEY_SECONDS": 0.5,
    "teul.plugins.volume_driver._SHORT_SECONDS": 5.0,
}
BOX = {"Image": "busybox", "Cmd": ["sleep", "300"], "HostConfig": {"Binds": ["vol:/there"], "VolumeDriver": "store"}}
GONE = 'error while checking if volume "vol" exists in driver "store": Post "http://plugin.moby.localhost/VolumeDriver.Get": dial unix '


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="teul-plugin-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def module_engine(base: Path) -> Iterator[Engine]:
    with Engine(extra=("--plugin-directory", str(base)), hurried=HURRY) as engine:
        engine.load(images.busybox().docker_archive())
        yield engine


@pytest.fixture
def plugin(base: Path) -> Iterator[VolumePlugin]:
    with VolumePlugin("store", base) as plugin:
        yield plugin


@pytest.fixture
def engine(module_engine: Engine, plugin: VolumePlugin) -> Iterator[Engine]:
    yield module_engine
    plugin.answers.clear()
    plugin.silent.clear()
    plugin.silence.set()
    module_engine.remove_containers()
    for name in module_engine.must("volume", "ls", "-q").split():
        module_engine.must("volume", "rm", name)
    assert plugin.volumes == {}


def ask(engine: Engine, method: str, path: str, body: object = None) -> tuple[int, str]:
    with engine.api(version="v1.51", timeout_seconds=60.0) as api:
        response = api.request(method, path, body)
    return response.status, response.message


def listed(engine: Engine) -> tuple[dict[str, str], list[str]]:
    """The drivers of the volumes that are listed, by name; and the warnings."""
    with engine.api(version="v1.51", timeout_seconds=60.0) as api:
        found = api.expect(200, "GET", "/volumes").json()
    return {volume["Name"]: volume["Driver"] for volume in found["Volumes"]}, found["Warnings"] or []


def make(engine: Engine, name: str = "box") -> None:
    assert ask(engine, "POST", f"/containers/create?name={name}", BOX)[0] == 201


def status(engine: Engine, name: str = "box") -> str:
    return str(json.loads(engine.must("inspect", name))[0]["State"]["Status"])


def test_plugin_that_is_dead_fails_the_start_in_dockers_words(engine: Engine, plugin: VolumePlugin) -> None:
    make(engine)
    plugin.leave()
    told = f"{GONE}{plugin.path}: connect: no such file or directory"
    assert ask(engine, "POST", "/containers/box/start") == (500, f"error while mounting volume '': {told}")
    assert ask(engine, "GET", "/volumes/vol") == (500, f"get vol: {told}")
    reference = "found reference to volume 'vol' in driver 'store', but got an error while checking the driver"
    assert ask(engine, "POST", "/volumes/create", {"Name": "vol"}) == (
        409,
        f"create vol: {reference}: {told}: volume name must be unique",
    )
    plugin.come_back()
    assert ask(engine, "POST", "/containers/box/start")[0] == 204
    assert len(plugin.mounts["vol"]) == 1


def test_plugin_that_dies_in_its_mount_is_told_to_unmount_when_it_is_back(engine: Engine, plugin: VolumePlugin) -> None:
    make(engine)
    plugin.silent.add("VolumeDriver.Mount")
    plugin.before["VolumeDriver.Mount"] = lambda: threading.Thread(target=plugin.leave).start()
    assert ask(engine, "POST", "/containers/box/start")[0] == 500
    plugin.before.clear()
    plugin.silent.clear()
    plugin.come_back()
    since = len(plugin.calls)
    assert ask(engine, "POST", "/containers/box/start")[0] == 204
    assert plugin.methods(since=since) == ["Get", "Get", "Unmount", "Mount"]
    assert len(plugin.mounts["vol"]) == 1


@pytest.mark.parametrize("by", ["the next start", "the next engine", "the removal"])
def test_plugin_that_was_dead_at_the_end_is_told_later(engine: Engine, plugin: VolumePlugin, by: str) -> None:
    make(engine)
    engine.must("start", "box")
    plugin.leave()
    engine.must("kill", "box")
    eventually(lambda: status(engine) == "exited", "the end is not held up for ever")
    assert len(plugin.mounts["vol"]) == 1
    if by == "the next engine":
        engine.kill9()
    plugin.come_back()
    if by == "the next engine":
        engine.start()
        eventually(lambda: not plugin.mounts["vol"], "it is unmounted")
    elif by == "the removal":
        engine.must("rm", "box")
        engine.must("volume", "rm", "vol")
    else:
        engine.must("start", "box")
        assert len(plugin.mounts["vol"]) == 1


def test_engine_that_starts_before_its_plugin_unmounts_once_it_is_there(engine: Engine, plugin: VolumePlugin) -> None:
    """Nothing waits for the plug-in meanwhile."""
    make(engine)
    engine.must("start", "box")
    engine.kill9()
    plugin.leave()
    engine.start()
    assert status(engine) == "running"
    engine.must("kill", "box")
    plugin.come_back()
    engine.must("rm", "-f", "box")
    engine.must("volume", "rm", "vol")
    assert not plugin.mounts["vol"]


def test_silent_plugin_holds_up_nobody_else(engine: Engine, plugin: VolumePlugin) -> None:
    make(engine)
    plugin.silent.add("VolumeDriver.Mount")
    answers: list[tuple[int, str]] = []
    start = threading.Thread(target=lambda: answers.append(ask(engine, "POST", "/containers/box/start")))
    start.start()
    eventually(lambda: bool(plugin.of("Mount")), "the plug-in is asked")
    engine.must("run", "--rm", "-v", "local:/x", "busybox", "touch", "/x/y")
    assert set(listed(engine)[0]) == {"vol", "local"}
    assert status(engine) == "created"
    assert not answers
    plugin.silent.clear()
    plugin.silence.set()
    start.join()
    assert answers[0][0] == 204, answers


def test_list_warns_of_plugins_that_do_not_answer_and_shows_what_is_known(engine: Engine, plugin: VolumePlugin) -> None:
    engine.must("volume", "create", "-d", "store", "vol")
    engine.must("volume", "create", "mine")
    plugin.answers["VolumeDriver.List"] = 200, b'{"Err": "no list today"}'
    assert listed(engine) == ({"vol": "store", "mine": "local"}, ["list store: no list today"])
    plugin.answers.clear()
    plugin.silent.add("VolumeDriver.List")
    found, [warning] = listed(engine)
    assert found == {"vol": "store", "mine": "local"}
    assert warning.endswith("context deadline exceeded")


def test_volume_that_only_the_plugin_knows_is_found_by_its_name(engine: Engine, plugin: VolumePlugin) -> None:
    plugin.volumes["theirs"] = {}
    plugin.directory("theirs").mkdir()
    (plugin.directory("theirs") / "file").write_text("of old")
    assert listed(engine)[0] == {"theirs": "store"}
    assert engine.must("run", "--rm", "-v", "theirs:/x", "busybox", "cat", "/x/file") == "of old"
    assert "Create" not in plugin.methods()


def test_volume_that_the_plugin_has_lost_is_forgotten(engine: Engine, plugin: VolumePlugin) -> None:
    engine.must("volume", "create", "-d", "store", "vol")
    make(engine)
    plugin.volumes.clear()
    assert ask(engine, "GET", "/volumes/vol") == (404, "get vol: no such volume")
    assert ask(engine, "POST", "/containers/box/start") == (404, "error while mounting volume '': get vol: no such volume")
    status, told = ask(engine, "POST", "/volumes/create", {"Name": "vol", "Driver": "store"})
    assert status == 409
    assert told.startswith("create vol: found references to volume 'vol' in driver 'store' but the volume was not found in the driver -- ")
    engine.must("rm", "box")
    assert ask(engine, "DELETE", "/volumes/vol") == (404, "get vol: no such volume")
    engine.must("volume", "create", "vol")
    assert listed(engine)[0] == {"vol": "local"}


def test_removal_that_the_plugin_refuses_is_told_and_with_force_the_record_goes_all_the_same(engine: Engine, plugin: VolumePlugin) -> None:
    engine.must("volume", "create", "-d", "store", "--label", "a=b", "vol")
    plugin.answers["VolumeDriver.Remove"] = 200, b'{"Err": "not now"}'
    assert ask(engine, "DELETE", "/volumes/vol") == (500, "remove vol: not now")
    assert json.loads(engine.must("volume", "inspect", "vol"))[0]["Labels"] == {"a": "b"}
    assert ask(engine, "DELETE", "/volumes/vol?force=1") == (500, "remove vol: not now")
    assert json.loads(engine.must("volume", "inspect", "vol"))[0]["Labels"] is None


def test_refusals_have_dockers_words(engine: Engine, plugin: VolumePlugin) -> None:
    assert ask(engine, "POST", "/volumes/create", {"Name": "vol", "Driver": "nosuch"}) == (
        404,
        'create vol: error looking up volume plugin nosuch: plugin "nosuch" not found',
    )
    plugin.answers["VolumeDriver.Create"] = 200, b'{"Err": "no room"}'
    assert ask(engine, "POST", "/volumes/create", {"Name": "vol", "Driver": "store"}) == (500, "create vol: no room")
    plugin.answers = {"VolumeDriver.Mount": (200, b'{"Mountpoint": "etc"}')}
    make(engine)
    status, told = ask(engine, "POST", "/containers/box/start")
    assert (status, told) == (500, "error while mounting volume '': volume plugin store has volume vol at 'etc', which is no absolute path")


def test_info_lists_the_drivers(engine: Engine, plugin: VolumePlugin) -> None:
    assert listed(engine) == ({}, [])
    with engine.api() as api:
        assert api.expect(200, "GET", "/info").json()["Plugins"]["Volume"] == ["local", "store"]


def test_volume_is_exported_and_cloned_and_not_filled(engine: Engine, plugin: VolumePlugin) -> None:
    engine.must("run", "--rm", "--volume-driver", "store", "-v", "vol:/x", "busybox", "sh", "-c", "echo text > /x/file")
    done = engine.teul("volume", "export", "-o", str(plugin.base / "archive.tar"), "vol")
    assert done.exit_code == 0, done.stderr
    done = engine.teul("volume", "clone", "vol", "copy")
    assert done.exit_code == 0, done.stderr
    assert engine.must("run", "--rm", "-v", "copy:/x", "busybox", "cat", "/x/file") == "text"
    assert not plugin.mounts["vol"]
    for command in (("import", "vol", str(plugin.base / "archive.tar")), ("clone", "copy", "vol")):
        done = engine.teul("volume", *command)
        assert done.exit_code == 1
        assert "volume vol is kept by plug-in store, where nothing can be put in its place in one step" in done.stderr


def test_mounts_are_added_and_taken_away_while_it_runs(engine: Engine, plugin: VolumePlugin) -> None:
    engine.must("volume", "create", "-d", "store", "vol")
    engine.must("run", "-d", "--name", "box", "busybox", "sleep", "300")
    for command in (("mount", "add", "box", "vol:/x"), ("mount", "rm", "box", "/x")):
        done = engine.teul(*command)
        assert done.exit_code == 0, done.stderr
        assert bool(plugin.mounts["vol"]) == (command[1] == "add")


def test_silent_plugin_is_not_asked_for_every_new_volume(engine: Engine, plugin: VolumePlugin) -> None:
    """Who wants a local one would wait for it every time."""
    assert listed(engine) == ({}, [])
    plugin.silent.add("VolumeDriver.Get")
    for name in ("one", "two", "three"):
        assert ask(engine, "POST", "/volumes/create", {"Name": name})[0] == 201
    assert listed(engine)[0] == {"one": "local", "two": "local", "three": "local"}
    assert [call.arguments["Name"] for call in plugin.of("Get")] == ["one"]
