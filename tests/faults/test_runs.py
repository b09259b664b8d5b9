"""Starting containers, their end, and what happens to them in between."""

from __future__ import annotations

from faults.judge import assert_ended, assert_ends, assert_usable, assert_whole
from faults.victim import Victim, cases
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs")]


@cases(
    {
        "networks.address.held": "kill cancel error",
        "networks.address.recorded": "kill cancel",
        "containers.start.bundle": "kill error",
        "runtime.start.asked": "kill cancel",
        "containers.start.running": "kill cancel",
        "store.transaction.worked": "kill full kill@2 full@2",
        "containers.start.recorded": "kill cancel",
    },
)
def test_container_runs_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """One that runs is watched over; one that does not can be started."""
    victim.create("hit")
    response = victim.strike(point, way, "POST", "/containers/hit/start", occurrence=occurrence)
    if response is not None and response.status == 204:
        assert victim.status("hit") == "running"
    assert_whole(victim)
    if victim.status("hit") == "created":
        victim.want(204, "POST", "/containers/hit/start")
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases(
    {
        "containers.end.changed": "kill",
        "store.transaction.worked": "kill full kill@2 full@2",
        "networks.address.forgotten": "kill",
        "containers.cleanup.released": "kill",
        "containers.end.recorded": "kill",
    },
)
def test_end_of_a_container_is_known(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """Its exit code is not lost, and it gives back what it held."""
    victim.run("hit")
    victim.arm(point, way, occurrence=occurrence)
    victim.tell("hit")
    victim.await_strike(point, way)
    assert_ended(victim, "hit")
    assert_whole(victim)
    victim.want(204, "POST", "/containers/hit/start")
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases(
    {
        "containers.end.changed": "kill",
        "store.transaction.worked": "kill kill@2 kill@3",
    },
)
def test_container_with_rm_is_removed_at_its_end(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.run("hit", HostConfig={"AutoRemove": True})
    victim.arm(point, way, occurrence=occurrence)
    victim.tell("hit")
    victim.await_strike(point, way)
    eventually(lambda: victim.status("hit") == "gone", "it is removed")
    assert_whole(victim)
    assert_usable(victim, "hit")


@cases(
    {
        "containers.pause.frozen": "kill cancel error",
        "store.transaction.worked": "kill full",
        "containers.pause.recorded": "kill cancel",
    },
)
def test_container_is_paused_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.run("hit")
    response = victim.strike(point, way, "POST", "/containers/hit/pause", occurrence=occurrence)
    if response is not None and response.status == 204:
        assert victim.status("hit") == "paused"
    assert_whole(victim)
    if victim.status("hit") == "paused":
        victim.want(204, "POST", "/containers/hit/unpause")
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases(
    {
        "containers.unpause.thawed": "kill cancel error",
        "store.transaction.worked": "kill full",
    },
)
def test_container_goes_on_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    victim.run("hit")
    victim.want(204, "POST", "/containers/hit/pause")
    response = victim.strike(point, way, "POST", "/containers/hit/unpause", occurrence=occurrence)
    if response is not None and response.status == 204:
        assert victim.status("hit") == "running"
    assert_whole(victim)
    if victim.status("hit") == "paused":
        victim.want(204, "POST", "/containers/hit/unpause")
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases(
    {
        "containers.exec.marked": "kill cancel error",
        "containers.exec.prepared": "kill error",
        "containers.exec.running": "kill cancel",
    },
)
def test_exec_runs_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """Execs are not recorded: the next engine does not know one. It takes its container over all the same, and can run others in it."""
    victim.run("hit")
    command = {"Cmd": ["sh", "-c", "mkfifo /tmp/exec && read -r word </tmp/exec; exit 3"]}
    identifier = victim.want(201, "POST", "/containers/hit/exec", command).json()["Id"]
    victim.strike(point, way, "POST", f"/exec/{identifier}/start", {"Detach": True}, occurrence=occurrence)
    assert_whole(victim)
    if way != "kill":
        found = victim.want(200, "GET", f"/exec/{identifier}/json").json()
        assert found["Running"] == (found["Pid"] != 0), "an exec that does not run is said to"
    another = victim.want(201, "POST", "/containers/hit/exec", {"Cmd": ["sh", "-c", "exit 4"]}).json()["Id"]
    victim.want(200, "POST", f"/exec/{another}/start", {"Detach": True})
    eventually(lambda: victim.want(200, "GET", f"/exec/{another}/json").json()["ExitCode"] == 4, "another exec runs")
    assert_ends(victim, "hit")
    assert_whole(victim)
    assert_usable(victim, "hit")
