"""Volumes of a plug-in, when the engine dies between the plug-in's calls and its own steps.

What the plug-in has mounted is what containers that run have, once an engine is there again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.conftest import Ward
from faults.judge import assert_ended, assert_whole
from faults.victim import IMAGE, Victim, cases, small_image
from support.needs import needs
from support.polling import eventually
from support.volume_plugin import VolumePlugin

pytestmark = [needs("root", "busybox", "overlayfs")]

BIND = {"HostConfig": {"Binds": ["vol:/there"], "VolumeDriver": "store"}}


class Scene:
    """An engine, and a plug-in that has one volume."""

    def __init__(self, victim: Victim, plugin: VolumePlugin) -> None:
        self.victim = victim
        self.plugin = plugin

    def assert_mounted_for_those_who_run(self) -> None:
        def is_so() -> bool:
            containers = self.victim.want(200, "GET", "/containers/json").json()
            return len(self.plugin.mounts.get("vol", [])) == len(containers)

        eventually(is_so, f"what is mounted is what runs: {self.plugin.mounts}, {self.plugin.methods()}")


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="teul-plugin-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def module_victim(ward: Ward, base: Path) -> Iterator[Victim]:
    ward.discharge()  # the judge knows of one engine
    victim = Victim()
    victim.change_options("--plugin-directory", str(base))
    with victim:
        victim.load(small_image(IMAGE).docker_archive())
        yield victim


@pytest.fixture
def scene(module_victim: Victim, base: Path) -> Iterator[Scene]:
    with VolumePlugin("store", base) as plugin:
        module_victim.want(201, "POST", "/volumes/create", {"Name": "vol", "Driver": "store"})
        yield Scene(module_victim, plugin)
        module_victim.disarm()
        module_victim.remove_containers()
        eventually(lambda: not plugin.mounts.get("vol"), "the volume is unmounted")
        module_victim.want(204, "DELETE", "/volumes/vol")
        assert_whole(module_victim)


@cases(
    {
        "volumes.mount.noted": "kill cancel error",
        "volumes.mount.mounted": "kill cancel error",
        "containers.start.running": "kill",
        "containers.start.recorded": "kill",
    }
)
def test_start_leaves_no_mount_that_nobody_has(scene: Scene, point: str, way: str, occurrence: int) -> None:
    victim = scene.victim
    victim.create("hit", **BIND)
    victim.strike(point, way, "POST", "/containers/hit/start", occurrence=occurrence)
    scene.assert_mounted_for_those_who_run()
    if victim.status("hit") != "running":
        victim.want(204, "POST", "/containers/hit/start")
    scene.assert_mounted_for_those_who_run()
    victim.tell("hit")
    assert_ended(victim, "hit")
    scene.assert_mounted_for_those_who_run()


@cases({"volumes.mount.unmounted": "kill error", "containers.end.changed": "kill", "containers.end.recorded": "kill"})
def test_end_unmounts_whoever_is_there_to_see_it(scene: Scene, point: str, way: str, occurrence: int) -> None:
    victim = scene.victim
    victim.run("hit", **BIND)
    victim.arm(point, way, occurrence=occurrence)
    victim.tell("hit")
    victim.await_strike(point, way)
    assert_ended(victim, "hit")
    scene.assert_mounted_for_those_who_run()


def test_container_that_ends_while_no_engine_is_there_is_unmounted_by_the_next(scene: Scene) -> None:
    victim = scene.victim
    victim.run("ends", **BIND)
    victim.run("stays", **BIND)
    kept = scene.plugin.mounts["vol"][1]
    with_engine = len(scene.plugin.calls)
    pid = victim.find("ends")["State"]["Pid"]
    fifo = f"/proc/{pid}/root/tmp/line"
    eventually(lambda: Path(fifo).exists(), "it listens")
    victim.kill9()
    Path(fifo).write_text("go\n")
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")
    victim.start()
    assert_ended(victim, "ends")
    eventually(lambda: scene.plugin.mounts["vol"] == [kept], "the mount of the one that ended is gone, and only that")
    assert "Mount" not in scene.plugin.methods(since=with_engine)
