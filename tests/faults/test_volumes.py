"""Volumes, and what an image gives them: there or not, whole or empty, and nobody's work lost."""

from __future__ import annotations

import os

from faults.judge import assert_ends, assert_usable, assert_whole
from faults.victim import IMAGE, Victim, cases
from support import images
from support.needs import needs

pytestmark = [needs("root", "busybox", "overlayfs")]

NAMELESS = {"Image": IMAGE, "Volumes": {"/data": {}}}


def volumes(victim: Victim) -> set[str]:
    return {item["Name"] for item in victim.want(200, "GET", "/volumes").json()["Volumes"]}


def content(victim: Victim, name: str) -> set[str]:
    """What is in a volume, and in the directory of the image that it is filled from."""
    return set(os.listdir(victim.root / "volumes" / name / "_data"))


@cases(
    {
        "volumes.create.made": "kill cancel error",
        "store.transaction.worked": "kill full",
        "volumes.create.recorded": "kill cancel",
    },
)
def test_volume_is_made_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    response = victim.strike(point, way, "POST", "/volumes/create", {"Name": "mine"}, occurrence=occurrence)
    if response is not None:
        assert (response.status == 201) == ("mine" in volumes(victim)), response.message
    assert_whole(victim)
    victim.want(201, "POST", "/volumes/create", {"Name": "mine"})
    victim.want(204, "DELETE", "/volumes/mine")
    assert_usable(victim, "hit")


@cases(
    {
        "store.transaction.worked": "kill full",
        "volumes.remove.forgotten": "kill cancel",
        "volumes.remove.aside": "kill",
    },
)
def test_volume_is_removed_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """What is in one that stays is all there."""
    victim.want(201, "POST", "/volumes/create", {"Name": "mine"})
    (victim.root / "volumes" / "mine" / "_data" / "work").write_text("of months")
    response = victim.strike(point, way, "DELETE", "/volumes/mine", occurrence=occurrence)
    if response is not None and response.status == 204:
        assert volumes(victim) == set()
    assert_whole(victim)
    if "mine" in volumes(victim):
        assert (victim.root / "volumes" / "mine" / "_data" / "work").read_text() == "of months"
    assert_usable(victim, "hit")


@cases(
    {
        "volumes.create.recorded": "kill cancel",
        "containers.create.directories": "kill cancel error",
        "volumes.populate.copied": "kill cancel error",
        "store.transaction.worked": "kill kill@2 full full@2",
        "containers.create.recorded": "kill cancel",
    },
)
def test_new_volume_has_all_of_the_image_or_nothing(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """The next container that gets it fills it, if the first one did not."""
    bind = {"HostConfig": {"Binds": ["mine:/bin"]}}
    response = victim.strike(point, way, "POST", "/containers/create?name=hit", {"Image": IMAGE, **bind}, occurrence=occurrence)
    if response is not None and response.status == 201:
        assert len(content(victim, "mine")) > 1
    assert_whole(victim)
    if "mine" in volumes(victim) and content(victim, "mine"):
        assert content(victim, "mine") >= {"busybox", "sh"}
    if victim.find("hit") is not None:
        victim.want(204, "DELETE", "/containers/hit")
    victim.run("hit", HostConfig={"Binds": ["mine:/bin"]})
    assert content(victim, "mine") >= {"busybox", "sh"}
    assert_ends(victim, "hit")
    victim.want(204, "DELETE", "/containers/hit")
    victim.want(204, "DELETE", "/volumes/mine")
    assert_usable(victim, "hit")


@cases({"volumes.populate.moving": "kill"})
def test_volume_that_is_seen_is_filled_in_the_end(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """One that a container has already, which may write to it meanwhile; what it wrote is not touched."""
    victim.run("first", HostConfig={"Binds": ["mine:/there:nocopy"]})
    bind = {"HostConfig": {"Binds": ["mine:/bin"]}}
    victim.strike(point, way, "POST", "/containers/create?name=hit", {"Image": IMAGE, **bind}, occurrence=occurrence)
    assert content(victim, "mine") >= {"busybox", "sh"}
    assert_whole(victim)
    assert_ends(victim, "first")
    victim.want(204, "DELETE", "/containers/first")
    assert_usable(victim, "hit")
    victim.want(204, "DELETE", "/volumes/mine")


def archive() -> bytes:
    return images.pack([images.file("first", "1"), images.directory("sub"), images.file("sub/second", "2")])


ALL = {"first", "sub"}


@cases(
    {
        "volumes.create.made": "kill cancel error",
        "store.transaction.worked": "kill full",
        "volumes.create.recorded": "kill cancel",
        "volumes.import.unpacked": "kill cancel error",
        "volumes.populate.copied": "kill cancel error",
    },
)
def test_import_is_whole_or_nothing(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """A volume that was made for it may stay after a kill, but empty; without a kill it goes again."""
    path = "/teul/volumes/mine/archive?create=1"
    response = victim.strike(point, way, "POST", path, archive(), occurrence=occurrence)
    if response is not None:
        assert ("mine" in volumes(victim)) == (response.status == 200), response.message
    assert_filled_or_not(victim, "mine", path, archive())


@cases(
    {
        "volumes.create.recorded": "kill cancel",
        "volumes.clone.copied": "kill cancel error",
        "volumes.populate.copied": "kill cancel error",
    },
)
def test_clone_is_whole_or_nothing(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.want(200, "POST", "/teul/volumes/first/archive?create=1", archive())
    path = "/teul/volumes/first/clone?to=mine"
    response = victim.strike(point, way, "POST", path, occurrence=occurrence)
    if response is not None:
        assert ("mine" in volumes(victim)) == (response.status == 200), response.message
    assert content(victim, "first") == ALL
    assert_filled_or_not(victim, "mine", path)
    victim.want(204, "DELETE", "/volumes/first")


@cases({"volumes.populate.moving": "kill"})
def test_import_that_is_seen_is_whole_in_the_end(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.run("first", HostConfig={"Binds": ["mine:/there"]})
    victim.strike(point, way, "POST", "/teul/volumes/mine/archive", archive(), occurrence=occurrence)
    assert content(victim, "mine") == ALL
    assert_whole(victim)
    assert_ends(victim, "first")
    victim.want(204, "DELETE", "/containers/first")
    victim.want(204, "DELETE", "/volumes/mine")
    assert_usable(victim, "hit")


def assert_filled_or_not(victim: Victim, name: str, path: str, body: bytes | None = None) -> None:
    """There is no volume of this name, or an empty one, or it has all; the first two can be filled by the same request now."""
    assert_whole(victim)
    if name not in volumes(victim) or not content(victim, name):
        victim.want(200, "POST", path, body)
    assert content(victim, name) == ALL
    assert os.listdir(victim.root / "volumes" / name) == ["_data"]
    victim.want(204, "DELETE", f"/volumes/{name}")
    assert_usable(victim, "hit")


@cases({"volumes.create.recorded": "kill"})
def test_volume_without_a_name_comes_with_its_container(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """An engine that is killed in between leaves it, as a volume like others that nobody uses."""
    victim.strike(point, way, "POST", "/containers/create?name=hit", NAMELESS, occurrence=occurrence)
    assert_whole(victim)
    assert_no_volume_is_needed(victim)


@cases(
    {
        "containers.remove.recorded": "kill cancel",
        "store.transaction.worked": "kill kill@2",
        "volumes.remove.forgotten": "kill",
    },
)
def test_volume_without_a_name_goes_with_its_container(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.want(201, "POST", "/containers/create?name=hit", NAMELESS)
    victim.strike(point, way, "DELETE", "/containers/hit?v=1", occurrence=occurrence)
    assert_whole(victim)
    if victim.find("hit") is not None:
        victim.want(204, "DELETE", "/containers/hit?v=1")
        assert volumes(victim) == set()
    assert_no_volume_is_needed(victim)


def assert_no_volume_is_needed(victim: Victim) -> None:
    victim.want(200, "POST", "/volumes/prune")
    assert volumes(victim) == set()
    assert_usable(victim, "hit")


@cases(
    {
        "store.transaction.worked": "kill kill@2 full full@2",
        "containers.mounts.recorded": "kill cancel error",
        "containers.mounts.attached": "kill cancel error",
    },
)
def test_volume_is_mounted_in_a_running_container_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """What is mounted is in the record, and can be taken away."""
    victim.run("hit")
    response = victim.strike(point, way, "POST", "/teul/containers/hit/mounts", {"Binds": ["mine:/m"]}, occurrence=occurrence)
    assert_whole(victim)
    shown = [mount["Destination"] for mount in victim.find("hit")["Mounts"]]
    if response is not None:
        assert (response.status == 200) == (shown == ["/m"]), response.message
    if is_mounted(victim):
        assert shown == ["/m"]
    if shown:
        victim.want(200, "POST", "/teul/containers/hit/mounts", {"Remove": ["/m"]})
    assert not is_mounted(victim)
    victim.want(200, "POST", "/teul/containers/hit/mounts", {"Binds": ["mine:/m"]})
    assert is_mounted(victim)
    victim.want(200, "POST", "/teul/containers/hit/mounts", {"Remove": ["/m"]})
    victim.want(204, "DELETE", "/volumes/mine")
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases({"containers.mounts.detached": "kill cancel error", "store.transaction.worked": "kill full"})
def test_volume_is_taken_from_a_running_container_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """What is not in the record is not mounted."""
    victim.run("hit")
    victim.want(200, "POST", "/teul/containers/hit/mounts", {"Binds": ["mine:/m"]})
    victim.strike(point, way, "POST", "/teul/containers/hit/mounts", {"Remove": ["/m"]}, occurrence=occurrence)
    assert_whole(victim)
    if victim.find("hit")["Mounts"]:
        victim.want(200, "POST", "/teul/containers/hit/mounts", {"Remove": ["/m"]})
    assert not is_mounted(victim)
    victim.want(204, "DELETE", "/volumes/mine")
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


def is_mounted(victim: Victim) -> bool:
    with open(f"/proc/{victim.find('hit')['State']['Pid']}/mounts") as file:
        return " /m " in file.read()
