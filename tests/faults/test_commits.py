"""Committing containers: there is a whole image or none, and the container goes on."""

from __future__ import annotations

import json

from faults.judge import assert_ends, assert_usable, assert_whole
from faults.victim import Victim, cases
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs")]

_COMMIT = "/commit?container=hit&repo=made&tag=1&comment=why"


def _is_there(victim: Victim) -> bool:
    response = victim.ask("GET", "/images/made:1/json")
    assert response is not None
    return response.status == 200


def _assert_made(victim: Victim) -> None:
    """The image has what the container has written, and stands by itself: its container can be run, and both removed."""
    config = {"Image": "made:1", "Cmd": ["sh", "-c", "[ -p /tmp/line ] && exit 3"]}
    victim.want(201, "POST", "/containers/create?name=user", config)
    victim.want(204, "POST", "/containers/user/start")
    assert victim.want(200, "POST", "/containers/user/wait").json()["StatusCode"] == 3
    victim.want(204, "DELETE", "/containers/user")
    victim.want(200, "DELETE", "/images/made:1")
    assert not _is_there(victim)
    assert_whole(victim)


@cases(
    {
        "containers.commit.frozen": "kill cancel error",
        "containers.commit.thawed": "kill cancel error",
        "images.changes.written": "kill cancel error",
        "images.commit.blob": "kill error kill@2 error@2",
        "images.commit.layer": "kill error",
        "images.commit.synced": "kill error",
        "store.transaction.worked": "kill full",
        "images.commit.recorded": "kill cancel",
    },
)
def test_container_is_committed_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.run("hit")
    eventually(lambda: "ready\n" in victim.log("hit"), "it has written something")
    response = victim.strike(point, way, "POST", _COMMIT, occurrence=occurrence)
    assert_whole(victim)  # among it: what runs by its record does not stand still
    assert victim.status("hit") == "running"
    if response is not None and response.status == 201:
        assert _is_there(victim)
        assert json.loads(response.body)["Id"] == victim.want(200, "GET", "/images/made:1/json").json()["Id"]
    if not _is_there(victim):
        victim.want(201, "POST", _COMMIT)
    _assert_made(victim)
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")
