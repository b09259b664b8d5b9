"""What links open between containers that are kept apart, when an engine fails or is killed while that changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.judge import assert_ends, assert_usable, assert_whole
from faults.victim import Victim, cases
from support.needs import needs

pytestmark = [needs("root", "busybox", "overlayfs", "nft")]


@pytest.fixture
def strict(victim: Victim) -> Iterator[Victim]:
    """The victim with a default bridge that keeps its containers apart."""
    victim.stop()
    victim.change_options("--icc=false")
    victim.start()
    yield victim
    victim.disarm()
    victim.remove_containers()
    victim.stop()
    victim.change_options()
    victim.start()


def linked_to(*names: str) -> dict[str, object]:
    return {"HostConfig": {"Links": [f"{name}:{name}" for name in names]}, "ExposedPorts": {"81/tcp": {}, "53/udp": {}}}


@cases({"networks.links.opened": "kill cancel error"})
def test_a_container_with_a_link_starts_or_not(strict: Victim, point: str, way: str, occurrence: int) -> None:
    strict.run("store", ExposedPorts={"80/tcp": {}})
    strict.create("hit", **linked_to("store"))
    strict.strike(point, way, "POST", "/containers/hit/start")
    assert_whole(strict)
    if strict.status("hit") != "running":
        strict.want(204, "POST", "/containers/hit/start")
    assert_whole(strict)
    assert_ends(strict, "hit")
    assert_whole(strict)
    assert_usable(strict, "hit")


@cases({"networks.links.opened": "kill cancel error"})
def test_a_link_is_removed_or_not(strict: Victim, point: str, way: str, occurrence: int) -> None:
    strict.run("store", ExposedPorts={"80/tcp": {}})
    strict.run("hit", **linked_to("store"))
    assert_whole(strict)
    strict.strike(point, way, "DELETE", "/containers/hit/store?link=1")
    assert_whole(strict)
    assert strict.find("hit")["HostConfig"]["Links"] is None, "the record has it first"
    assert_ends(strict, "hit")


@cases({"networks.links.opened": "kill"})
def test_a_linked_container_that_ends_leaves_nothing_open(strict: Victim, point: str, way: str, occurrence: int) -> None:
    strict.run("store", ExposedPorts={"80/tcp": {}})
    strict.run("hit", **linked_to("store"))
    strict.arm(point, way)
    strict.tell("store")
    strict.await_strike(point, way)
    assert_whole(strict)
    assert_ends(strict, "hit")
    assert_whole(strict)
