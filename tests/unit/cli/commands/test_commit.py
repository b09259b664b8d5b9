"""`teul commit`, `container prune` and `system prune` against a fake engine: requests, texts and exit codes."""

from __future__ import annotations

import json

import pytest

from unit.cli.fake_engine import CommandLine, FakeEngine, reply

QUESTION = "Are you sure you want to continue? [y/N] "
REPORTS = {
    "POST /containers/prune": {"ContainersDeleted": ["c1", "c2"], "SpaceReclaimed": 1000},
    "POST /networks/prune": {"NetworksDeleted": ["net"]},
    "POST /volumes/prune": {"VolumesDeleted": ["vol"], "SpaceReclaimed": 20},
    "POST /images/prune": {"ImagesDeleted": [{"Deleted": "sha256:0"}], "SpaceReclaimed": 3},
    "POST /build/prune": {"CachesDeleted": None, "SpaceReclaimed": 0},
}


def test_commit_asks_for_what_was_said(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /commit": reply({"Id": "sha256:1"}, status=201)}
    assert teul("commit", "box").out == "sha256:1\n"
    assert engine.requests[0].query == {"container": ["box"]}
    assert teul("container", "commit", "-a", "me", "-m", "why", "-c", "A", "--change", "B", "-p=false", "box", "some/name").status == 0
    assert engine.requests[1].query == {
        "container": ["box"],
        "repo": ["some/name"],
        "tag": ["latest"],
        "author": ["me"],
        "comment": ["why"],
        "changes": ["A", "B"],
        "pause": ["0"],
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Bad", "invalid reference format: repository name (library/Bad) must be lowercase"),
        ("a:b:c", "invalid reference format"),
        ("a@sha256:" + "a" * 64, "refusing to create a tag with a digest reference"),
    ],
)
def test_commit_refuses_names_that_no_image_can_have(engine: FakeEngine, teul: CommandLine, name: str, message: str) -> None:
    outcome = teul("commit", "box", name)
    assert (outcome.status, outcome.err) == (1, f"{message}\n")
    assert not engine.requests


def test_container_prune_asks_first(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {route: reply(report) for route, report in REPORTS.items()}
    asked = f"WARNING! This will remove all stopped containers.\n{QUESTION}"
    assert teul("container", "prune", stdin=b"n\n").out == asked
    assert not engine.requests
    assert teul("container", "prune", stdin=b"y\n").out == f"{asked}Deleted Containers:\nc1\nc2\n\nTotal reclaimed space: 1kB\n"
    teul("container", "prune", "-f", "--filter", "until=1h")
    assert json.loads(engine.requests[-1].query["filters"][0]) == {"until": {"1h": True}}


def test_system_prune_removes_one_kind_after_the_other(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {route: reply(report) for route, report in REPORTS.items()}
    outcome = teul("system", "prune", "-f", "-a", "--volumes", "--filter", "label=x")
    lists = "Deleted Containers:\nc1\nc2\n\nDeleted Networks:\nnet\n\nDeleted Volumes:\nvol\n\nDeleted Images:\ndeleted: sha256:0\n\n"
    assert outcome.out == f"{lists}Total reclaimed space: 1.023kB\n"
    assert [request.path.rsplit("/", 2)[1] for request in engine.requests] == ["containers", "networks", "volumes", "images", "build"]
    assert json.loads(engine.requests[3].query["filters"][0]) == {"label": {"x": True}, "dangling": {"false": True}}
    assert engine.requests[4].query["all"] == ["1"]


def test_system_prune_says_what_will_go(engine: FakeEngine, teul: CommandLine) -> None:
    outcome = teul("system", "prune", "--filter", "label=b10", "--filter", "label=b9", stdin=b"n\n")
    assert outcome.out == (
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
        "  - all dangling images\n  - unused build cache\n\n"
        f"  Items to be pruned will be filtered with:\n  - label=b9\n  - label=b10\n\n{QUESTION}"
    )
    assert not engine.requests
    refused = teul("system", "prune", "--volumes", "--filter", "until=1h")
    assert (refused.status, refused.err) == (1, 'ERROR: The "until" filter is not supported with "--volumes"\n')
