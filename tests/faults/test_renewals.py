"""Renewing a container: whatever happens in the middle, the former one runs or the new one, never both or none, and all the rest is gone."""

from __future__ import annotations

from typing import Any

from faults.judge import assert_ends, assert_usable, assert_whole
from faults.victim import IMAGE, Victim, cases
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs")]

# Healthy unless it is told otherwise; its first process does not hear of SIGTERM.
QUICK: dict[str, Any] = {
    "Healthcheck": {"Test": ["CMD", "sh", "-c", 'test -z "$ILL"'], "Interval": 50_000_000, "Retries": 1},
    "StopSignal": "SIGKILL",
}
RENEW = "/teul/containers/hit/renew"
AFTER_THE_DECISION = {"containers.renew.decided"}


def the_only_one(victim: Victim) -> str:
    """The id of the container, once there is one and it runs."""

    def look() -> str:
        found = victim.want(200, "GET", "/containers/json?all=1").json()
        running = [each["Id"] for each in found if each["State"] == "running"]
        return running[0] if len(found) == len(running) == 1 and found[0]["Names"] == ["/hit"] else ""

    return eventually(look, "one container is there, and runs")


@cases(
    {
        "containers.renew.created": "kill error",
        "containers.renew.announced": "kill error",
        "containers.renew.stopped": "kill error",
        "containers.renew.exchanged": "kill error",
        "containers.renew.started": "kill error",
        "containers.renew.decided": "kill error",
        "containers.start.running": "kill",
        "containers.remove.recorded": "kill",
        "store.transaction.worked": "kill kill@2 kill@3 kill@4 kill@5 kill@6 full full@2 full@4",
    },
)
def test_former_container_runs_or_the_new_one(victim: Victim, point: str, way: str, occurrence: int) -> None:
    former = victim.run("hit", **QUICK)
    response = victim.strike(point, way, "POST", RENEW, {"Force": True}, occurrence=occurrence)
    if way == "error" and point in AFTER_THE_DECISION:
        # The new one runs. The former one stays, stopped, until another engine looks.
        assert victim.status("hit-1") == "exited"
        victim.stop()
        victim.start()
    left = the_only_one(victim)
    if point.startswith("containers.renew."):
        assert (left == former) == (point not in AFTER_THE_DECISION)
    if response is not None and b'"Renewed":true' in response.body:
        assert left != former
    assert_whole(victim)
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases(
    {
        "containers.renew.ended": "kill error",
        "containers.renew.returned": "kill error",
        "containers.renew.restarted": "kill error",
        "store.transaction.worked": "kill@8",
    },
)
def test_going_back_goes_on_with_the_next_engine(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """The new one is no good, and something happens while the former one gets its place back."""
    former = victim.run("hit", **QUICK)
    victim.strike(point, way, "POST", RENEW, {"Env": ["ILL=1"]}, occurrence=occurrence)
    if way == "error":
        victim.stop()
        victim.start()
    assert the_only_one(victim) == former
    assert_whole(victim)
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases({"containers.renew.stopped": "kill", "containers.renew.started": "kill"})
def test_container_that_would_be_removed_at_its_end_stays(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """docker: --rm. The stop in the middle of a renewal is none of its ends."""
    former = victim.create("hit", HostConfig={"AutoRemove": True}, **QUICK)
    victim.want(204, "POST", f"/containers/{former}/start")
    victim.strike(point, way, "POST", RENEW, {"Force": True}, occurrence=occurrence)
    assert the_only_one(victim) == former
    assert_whole(victim)
    assert victim.find("hit")["Image"] == victim.want(200, "GET", f"/images/{IMAGE}/json").json()["Id"]
