"""Creating, renaming, updating and removing containers: whatever happens in the middle, each is there as a whole or not at all."""

from __future__ import annotations

from faults.judge import assert_ends, assert_usable, assert_whole
from faults.victim import IMAGE, Victim, cases
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs")]


@cases(
    {
        "containers.create.directories": "kill cancel error",
        "store.transaction.worked": "kill full",
        "containers.create.recorded": "kill cancel",
    },
)
def test_container_is_created_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    response = victim.strike(point, way, "POST", "/containers/create?name=hit", {"Image": IMAGE}, occurrence=occurrence)
    assert_whole(victim)
    if response is not None and response.status == 201:
        assert victim.status(response.json()["Id"]) == "created"
    assert_usable(victim, "hit")


@cases(
    {
        "containers.rename.reserved": "kill cancel error",
        "store.transaction.worked": "kill full",
    },
)
def test_container_has_its_old_name_or_its_new_one(victim: Victim, point: str, way: str, occurrence: int) -> None:
    container = victim.create("old")
    response = victim.strike(point, way, "POST", "/containers/old/rename?name=new", occurrence=occurrence)
    assert_whole(victim)
    name = victim.find(container)["Name"]
    assert name == "/new" or (name == "/old" and (response is None or response.status != 204))
    other = {"/old": "new", "/new": "old"}[name]
    assert victim.find(other) is None
    assert_usable(victim, other)
    assert_usable(victim, name.removeprefix("/"))


@cases(
    {
        "containers.update.recorded": "kill cancel error",
        "store.transaction.worked": "kill full",
    },
)
def test_limits_are_changed_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """docker: the record decides; it is what the next start applies."""
    container = victim.run("hit", HostConfig={"PidsLimit": 100})
    response = victim.strike(point, way, "POST", "/containers/hit/update", {"PidsLimit": 50}, occurrence=occurrence)
    assert_whole(victim)
    limit = victim.find("hit")["HostConfig"]["PidsLimit"]
    assert limit == 50 or (limit == 100 and (response is None or response.status != 200))
    if way != "kill":
        [file] = [directory / "pids.max" for directory in victim.cgroups()[container] if (directory / "pids.max").exists()]
        assert file.read_text().strip() == str(limit)
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases(
    {
        "containers.remove.marked": "kill cancel error",
        "store.transaction.worked": "kill full",
        "containers.remove.recorded": "kill cancel",
        "containers.remove.aside": "kill",
    },
)
def test_container_is_removed_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    container = victim.create("hit")
    response = victim.strike(point, way, "DELETE", "/containers/hit", occurrence=occurrence)
    if response is not None and response.status == 204:
        eventually(lambda: victim.status(container) == "gone", "it stays removed")
    assert_whole(victim)
    assert_usable(victim, "hit")
