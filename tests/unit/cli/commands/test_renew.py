"""`teul renew`, `rollback`, `outdated` and `container history` against a fake engine."""

from __future__ import annotations

import json

import pytest

from unit.cli.fake_engine import CommandLine, FakeEngine, failure, reply, stream

DONE = stream({"status": "Made container"}, {"progressDetail": {}, "aux": {"Id": "new", "Renewed": True}})
SAME = stream({"progressDetail": {}, "aux": {"Id": "old", "Renewed": False}})
RENEW = "POST /teul/containers/web/renew"


def test_changes_are_sent_and_the_steps_shown(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {RENEW: DONE}
    options = ["--image", "app:2", "-e", "A=1", "-p", "8080:80", "-v", "named:/data", "-v", "/own", "--timeout", "5", "--keep", "--force"]
    outcome = teul("renew", *options, "web")
    assert (outcome.status, outcome.out, outcome.err) == (0, "web\n", "Made container\n")
    [request] = engine.made("POST", "/teul/containers/web/renew")
    assert request.json() == {
        "Image": "app:2",
        "Timeout": 5,
        "Keep": True,
        "Force": True,
        "Env": ["A=1"],
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "Binds": ["named:/data"],
        "Volumes": {"/own": {}},
    }


def test_one_that_is_up_to_date(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {RENEW: SAME}
    assert (teul("renew", "web").err, teul("renew", "-q", "web").err) == ("web is up to date\n", "")


def test_failures_are_told(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {RENEW: stream({"status": "Made"}, {"errorDetail": {"message": "no good"}, "error": "no good"})}
    outcome = teul("renew", "-q", "web")
    assert (outcome.status, outcome.out, outcome.err) == (1, "", "no good\n")
    engine.routes = {RENEW: failure(404, "No such container: web")}
    assert "No such container: web" in teul("renew", "web").err
    engine.routes = {RENEW: stream({"status": "Made"})}
    assert "takes back when it starts again" in teul("renew", "web").err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "requires exactly 1 container, or --all"),
        (("-f", "label=a", "web"), "--filter goes with --all"),
        (("--all", "web"), "--all goes with no container and no --image"),
        (("--all", "--image", "x"), "--all goes with no container and no --image"),
        (("-p", "x:y:z:a", "web"), "nvalid"),
        (("-v", "", "web"), "invalid empty volume spec"),
    ],
)
def test_wrong_requests_are_refused_before_anybody_is_asked(
    engine: FakeEngine, teul: CommandLine, arguments: tuple[str, ...], reason: str
) -> None:
    outcome = teul("renew", *arguments)
    assert outcome.status == 1
    assert reason in outcome.err
    assert engine.requests == []


def test_all_are_renewed_until_one_fails(engine: FakeEngine, teul: CommandLine) -> None:
    found = [{"Id": name, "Name": name} for name in ("web", "bad", "late")]
    engine.routes = {
        "GET /teul/containers/outdated": reply(found),
        RENEW: DONE,
        "POST /teul/containers/bad/renew": stream({"errorDetail": {"message": "no good"}, "error": "no good"}),
    }
    outcome = teul("renew", "-q", "--all", "--filter", "label=a")
    assert (outcome.status, outcome.out, outcome.err) == (1, "web\n", "no good\n")
    [request] = engine.made("GET", "/teul/containers/outdated")
    assert json.loads(request.query["filters"][0]) == {"label": {"a": True}}


def test_images_are_pulled_first_and_each_once(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {
        "GET /containers/json": reply([{"Image": "app:1"}, {"Image": "app:1"}, {"Image": f"app@sha256:{'a' * 64}"}]),
        "GET /teul/containers/outdated": reply([]),
        "GET /containers/web/json": reply({"Config": {"Image": "app"}}),
        "POST /images/create": stream(),
        RENEW: DONE,
    }
    assert teul("renew", "--pull", "--all").status == 0
    assert teul("renew", "--pull", "web").status == 0
    assert teul("renew", "--pull", "--image", "other:3", "web").status == 0
    pulled = [(request.query["fromImage"], request.query["tag"]) for request in engine.made("POST", "/images/create")]
    assert pulled == [(["app"], ["1"]), (["app"], ["latest"]), (["other"], ["3"])]


def test_rollback_names_the_generation(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /teul/containers/web/rollback": DONE}
    assert teul("rollback", "-q", "web").out == "web\n"
    assert teul("container", "rollback", "web", "3", "--keep").status == 0
    first, second = engine.made("POST", "/teul/containers/web/rollback")
    assert (first.query, second.query) == ({}, {"generation": ["3"]})
    assert second.json() == {"Timeout": 0, "Keep": True}
    assert "invalid generation 'x'" in teul("rollback", "web", "x").err


def test_generations_are_listed(engine: FakeEngine, teul: CommandLine) -> None:
    common = {"Id": "a" * 64, "ImageID": f"sha256:{'b' * 64}", "Image": "app:1", "Began": 0, "Changes": []}
    engine.routes = {
        "GET /teul/containers/web/generations": reply(
            [
                {**common, "Generation": 3, "Result": "", "Kept": False, "Changes": ["image b", "env A"]},
                {**common, "Generation": 2, "Result": "replaced", "Kept": True},
                {**common, "Generation": 1, "Result": "failed: x", "Kept": False},
            ]
        )
    }
    outcome = teul("container", "history", "--format", "{{.Generation}} {{.ID}} {{.ImageID}} {{.Changes}} {{.Result}}", "web")
    assert outcome.out.splitlines() == [
        f"3 {'a' * 12} {'b' * 12} image b, env A current",
        f"2 {'a' * 12} {'b' * 12}  replaced (kept)",
        f"1 {'a' * 12} {'b' * 12}  failed: x",
    ]
    assert teul("container", "history", "web").out.startswith("GENERATION   CONTAINER ID   IMAGE     IMAGE ID       SINCE")
    assert "a" * 64 in teul("container", "history", "--no-trunc", "web").out


def test_outdated_ones_are_listed(engine: FakeEngine, teul: CommandLine) -> None:
    found = {"Id": "a" * 64, "Name": "web", "Image": "app:1", "ImageID": f"sha256:{'b' * 64}", "NewImageID": f"sha256:{'c' * 64}"}
    engine.routes = {"GET /teul/containers/outdated": reply([found])}
    assert teul("outdated").out.splitlines()[0].split("  ")[0] == "CONTAINER ID"
    assert teul("outdated", "-q").out == f"{'a' * 12}\n"
    assert teul("outdated", "-a", "--format", "{{.Name}} {{.ImageID}} {{.NewImageID}}").out == f"web {'b' * 12} {'c' * 12}\n"
    assert engine.made("GET", "/teul/containers/outdated")[-1].query == {"all": ["1"]}
