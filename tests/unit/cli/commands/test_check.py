"""`teul system check` against a fake engine."""

from __future__ import annotations

from typing import Any

from unit.cli.fake_engine import CommandLine, FakeEngine, Outcome, failure, stream

PATH = "POST /teul/system/check"


def finding(**members: Any) -> dict[str, Any]:
    whole = {"kind": "blob", "subject": "sha256:1", "path": "/p", "damage": "it is not there", "images": [], "repaired": ""}
    return {"finding": {**whole, **members}}


def outcome(damaged: int, repaired: int) -> dict[str, Any]:
    return {"outcome": {"blobs": 3, "layers": 1, "damaged": damaged, "repaired": repaired}}


def test_all_is_well(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {PATH: stream({"progress": {"current": 1, "total": 1}}, outcome(0, 0))}
    assert teul("system", "check") == Outcome(0, "Checked 3 blobs and 1 layer: 0 damaged, 0 repaired\n", "")
    assert engine.requests[-1].query == {}


def test_what_stays_damaged_is_a_failure(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {PATH: stream(finding(images=["a:1", "b:1"]), outcome(1, 0))}
    assert teul("system", "check") == Outcome(
        1,
        "blob sha256:1 of a:1, b:1: it is not there\nChecked 3 blobs and 1 layer: 1 damaged, 0 repaired\n",
        "",
    )


def test_what_was_repaired_is_none(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {PATH: stream(finding(kind="file", subject="x", repaired="removed"), outcome(1, 1))}
    told = teul("system", "check", "--repair")
    assert (told.status, told.out.splitlines()[0]) == (0, "file x: it is not there (removed)")
    assert engine.requests[-1].query == {"repair": ["1"]}


def test_a_check_that_was_broken_off_says_so(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {PATH: stream(finding())}
    told = teul("system", "check")
    assert (told.status, told.err) == (1, "the engine ended the check before it was done\n")
    engine.routes = {PATH: stream({"errorDetail": {"message": "no space"}, "error": "no space"})}
    assert teul("system", "check").err == "no space\n"
    engine.routes = {PATH: failure(409, "a check is already running")}
    assert teul("system", "check").err == "Error response from daemon: a check is already running\n"
