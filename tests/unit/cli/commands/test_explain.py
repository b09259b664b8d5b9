"""`teul network explain` against a fake engine."""

from __future__ import annotations

import json
import os

import pytest

from unit.cli.fake_engine import CommandLine, FakeEngine, failure, reply
from unit.cli.format.test_paths import REFUSED, explanation

PATH = "/teul/containers/web/network/explanation"


@pytest.fixture(autouse=True)
def explained(engine: FakeEngine) -> None:
    engine.routes = {f"GET {PATH}": reply(explanation(REFUSED))}


def test_the_port_and_the_asker_are_asked_for(engine: FakeEngine, teul: CommandLine) -> None:
    assert teul("network", "explain", "web").status == 0
    assert teul("network", "explain", "--from", "192.0.2.7", "web", "127.0.0.1:53/udp").status == 0
    assert [request.query for request in engine.made("GET", PATH)] == [{}, {"port": ["127.0.0.1:53/udp"], "from": ["192.0.2.7"]}]


def test_text_json_and_a_picture(teul: CommandLine) -> None:
    assert teul("network", "explain", "web").out.startswith("web (cccccccccccc)\n")
    assert json.loads(teul("network", "explain", "--format", "json", "web").out)["Paths"][0]["Verdict"]["Result"] == "refused"
    assert teul("network", "explain", "--format", "svg", "web").out.startswith("<svg ")


@pytest.mark.parametrize(("name", "start"), [("p.svg", "<svg "), ("p.json", "{"), ("p.txt", "web (")])
def test_a_files_name_says_the_format(teul: CommandLine, name: str, start: str) -> None:
    path = teul.directory / name
    outcome = teul("network", "explain", "web", "--output", str(path))
    assert (outcome.status, outcome.out) == (0, "")
    assert path.read_text(encoding="utf-8").startswith(start)
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_what_does_not_work_is_told(engine: FakeEngine, teul: CommandLine) -> None:
    assert "unknown format 'xml': one of text, json, svg" in teul("network", "explain", "-f", "xml", "web").err
    assert engine.requests == [], "before anybody is asked"
    outcome = teul("network", "explain", "web", "-o", str(teul.directory))
    assert (outcome.status, outcome.err) == (1, "cannot write to a directory\n")
    engine.routes = {f"GET {PATH}": failure(404, "No such container: web")}
    assert "No such container: web" in teul("network", "explain", "web").err
    assert "requires at least 1 and at most 2 arguments" in teul("network", "explain").err
