"""The keeper and its starters: the engine lives, and hears of everything that becomes of its containers."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from faults.judge import assert_ended, assert_ends, assert_usable, assert_whole
from faults.victim import EXIT_CODE, Victim, cases
from support.needs import needs
from support.polling import eventually
from support.unix_http import demultiplex

pytestmark = [needs("root", "busybox", "overlayfs")]


@cases(
    {
        "keeper.start.received": "kill",
        "keeper.start.cgroup": "kill error",
        "keeper.start.forked": "kill error",
        "keeper.start.announced": "kill error",
        "keeper.start.linked": "kill error",
        "keeper.start.executed": "kill error",
        "keeper.start.handed": "kill",
        "keeper.watch.noted": "kill error",
    },
)
def test_container_runs_or_not(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """A start that fails says so and leaves nothing."""
    victim.create("hit")
    response = victim.strike(point, way, "POST", "/containers/hit/start", occurrence=occurrence)
    assert response is not None
    assert victim.status("hit") == ("running" if response.status == 204 else "created"), response.message
    if way == "error":
        assert f"at {point}" in response.message, "what went wrong is not what is told"
    assert_whole(victim)
    if response.status != 204:
        victim.want(204, "POST", "/containers/hit/start")
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "terminal": {"Tty": True},
    "init": {"HostConfig": {"Init": True}},
    "short": {"Cmd": ["sh", "-c", f"echo ready; echo told go; exit {EXIT_CODE}"]},
    "no network": {"HostConfig": {"NetworkMode": "none"}},
}


@cases({"keeper.start.executed": "kill", "keeper.start.handed": "kill"})
@pytest.mark.parametrize("kind", SETTINGS)
def test_program_that_has_begun_is_started(victim: Victim, kind: str, point: str, way: str, occurrence: int) -> None:
    """It may have done anything by then: that its starter could not say so is no reason to have the user start it again."""
    victim.create("hit", **SETTINGS[kind])
    response = victim.strike(point, way, "POST", "/containers/hit/start", occurrence=occurrence)
    assert response is not None
    assert response.status == 204, response.message
    if kind != "short":
        assert victim.status("hit") == "running"
        if kind != "no network":  # the judge counts links
            assert_whole(victim)
        victim.tell("hit")
    eventually(lambda: victim.status("hit") == "exited", "it has ended")
    assert victim.find("hit")["State"]["ExitCode"] == EXIT_CODE
    assert "told go" in victim.log("hit")
    assert_usable(victim, "hit")


@cases(
    {
        "keeper.end.reaped": "kill",
        "keeper.end.swept": "kill",
        "keeper.end.recorded": "kill",
    },
)
def test_end_of_a_container_is_known(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """The engine inherits what a killed keeper had started, or reads what it wrote."""
    victim.run("hit")
    victim.arm(point, way, occurrence=occurrence)
    victim.tell("hit")
    victim.await_strike(point, way)
    assert_ended(victim, "hit")
    assert_whole(victim)
    victim.want(204, "POST", "/containers/hit/start")
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


# Says a number for every word it is told, and ends with 7 after the word "end".
_COUNTER = 'mkfifo /tmp/line; exec 3<>/tmp/line; n=0; while read -r word <&3; do n=$((n+1)); echo $n; [ "$word" = end ] && exit 7; done'
# A file is full with two lines, and all files are kept.
_SMALL_LOG = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "100", "max-file": "99"}}}

_COMPRESSED_LOG = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "100", "max-file": "99", "compress": "true"}}}


@cases({"keeper.log.shifted": "kill error", "keeper.log.moved": "kill error", "keeper.log.compressed": "kill error"})
def test_a_rotation_that_breaks_off_costs_the_line_in_hand_at_most(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """What the keeper had read and not yet written goes with it. Every line before is still read, and every line after it is logged."""
    victim.run("hit", Cmd=["sh", "-c", _COUNTER], HostConfig=_COMPRESSED_LOG if point == "keeper.log.compressed" else _SMALL_LOG)

    def numbers() -> list[int]:
        output, _errors = demultiplex(victim.want(200, "GET", "/containers/hit/logs?stdout=1").body)
        return [int(line) for line in output.split()]

    def tell() -> int:
        """Have it say the next number; returns that when it is logged, or the point was reached on the way."""
        number = next(words)
        victim.tell("hit")
        eventually(lambda: number in numbers() or (armed and not victim.is_armed(point)), f"{number} is logged")
        return number

    words = count(1)
    armed = False
    for _ in range(5):
        tell()
    victim.arm(point, way, occurrence=occurrence)
    armed = True
    in_hand = 0
    while victim.is_armed(point):
        in_hand = tell()
    armed = False
    assert numbers()[: in_hand - 1] == list(range(1, in_hand)), "what was logged before can be read"
    for _ in range(5):
        tell()
    victim.tell("hit", "end")
    eventually(lambda: victim.status("hit") == "exited", "it has ended")
    assert victim.find("hit")["State"]["ExitCode"] == EXIT_CODE
    assert [number for number in numbers() if number != in_hand] == [number for number in range(1, next(words) + 1) if number != in_hand]
    assert_whole(victim)
    assert_usable(victim, "hit")


@cases(
    {"keeper.start.received": "kill", "keeper.start.forked": "kill error", "keeper.start.executed": "kill", "keeper.watch.noted": "kill"}
)
def test_exec_fails_alone(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """Whatever happens to the start of an exec: its container goes on, and so does the next exec."""
    victim.run("hit")
    create = ("POST", "/containers/hit/exec", {"Cmd": ["sh", "-c", "exit 4"]})
    identifier = victim.want(201, *create).json()["Id"]
    victim.strike(point, way, "POST", f"/exec/{identifier}/start", {"Detach": True}, occurrence=occurrence)
    eventually(lambda: not victim.want(200, "GET", f"/exec/{identifier}/json").json()["Running"], "it has ended")
    another = victim.want(201, *create).json()["Id"]
    victim.want(200, "POST", f"/exec/{another}/start", {"Detach": True})
    eventually(lambda: victim.want(200, "GET", f"/exec/{another}/json").json()["ExitCode"] == 4, "another exec runs")
    assert_whole(victim)
    assert_ends(victim, "hit")
    assert_usable(victim, "hit")


@cases({"keeper.start.executed": "kill"})
def test_exec_whose_program_has_begun_is_started(victim: Victim, point: str, way: str, occurrence: int) -> None:
    """It is watched over to its end, as if its starter had said so."""
    victim.run("hit")
    create = ("POST", "/containers/hit/exec", {"Cmd": ["sh", "-c", "echo done; exit 4"]})
    identifier = victim.want(201, *create).json()["Id"]
    response = victim.strike(point, way, "POST", f"/exec/{identifier}/start", {"Detach": True}, occurrence=occurrence)
    assert response is not None
    assert response.status == 200, response.message
    eventually(lambda: not victim.want(200, "GET", f"/exec/{identifier}/json").json()["Running"], "it has ended")
    assert victim.want(200, "GET", f"/exec/{identifier}/json").json()["ExitCode"] == 4
    assert_whole(victim)
