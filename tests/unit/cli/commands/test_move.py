"""`teul image push-to` and `pull-from` against fake engines, and how ssh is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from teul.cli.errors import CliError
from teul.cli.peer import parse_ssh, ssh_command
from unit.cli.fake_engine import CommandLine, FakeEngine, Outcome, failure, reply, stream

MISSING, BLOBS, SAVE, LOAD = (f"POST /teul/images/{action}" for action in ("missing", "blobs", "save", "load"))
LOADED = stream({"stream": "Loaded image: a:1\n"})


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(tmp_path, {}) as running:
        yield running


def test_what_the_other_engine_has_is_left_out(engine: FakeEngine, other: FakeEngine, teul: CommandLine) -> None:
    blobs = [{"digest": "sha256:1", "size": 5_000_000}, {"digest": "sha256:2", "size": 1_500}]
    engine.routes = {MISSING: reply({"missing": []}), BLOBS: reply({"blobs": blobs}), SAVE: reply("archive")}
    other.routes = {MISSING: [reply({"missing": []}), reply({"missing": ["sha256:2"]})], LOAD: LOADED}
    told = teul("image", "push-to", f"unix://{other.path}", "a:1", "b:1")
    assert told == Outcome(0, "Loaded image: a:1\n", "Sending 1 of 2 blobs, 1.5kB\n")
    [order] = engine.made("POST", "/teul/images/save")
    assert order.json() == {"names": ["a:1", "b:1"], "without": ["sha256:1"]}
    assert other.requests[-1].body == b'"archive"'


@pytest.mark.parametrize("ignorant", ["engine", "other"])
def test_an_engine_that_is_no_teul_gets_or_gives_all(engine: FakeEngine, other: FakeEngine, teul: CommandLine, ignorant: str) -> None:
    other.routes = {"GET /images/get": reply("archive")}
    engine.routes = {"POST /images/load": LOADED}
    (other if ignorant == "engine" else engine).routes[MISSING] = reply({"missing": []})
    told = teul("image", "pull-from", f"unix://{other.path}", "a:1", "b:1")
    assert told == Outcome(0, "Loaded image: a:1\n", "One of the engines cannot leave anything out: sending all blobs\n")
    assert other.requests[-1].query == {"names": ["a:1", "b:1"]}
    assert engine.requests[-1].body == b'"archive"'


def test_what_goes_wrong_is_told(engine: FakeEngine, other: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {MISSING: failure(500, "no disk")}
    assert teul("image", "push-to", f"unix://{other.path}", "a:1") == Outcome(1, "", "Error response from daemon: no disk\n")
    engine.routes = {MISSING: reply({"missing": []}), BLOBS: reply({"blobs": []}), SAVE: reply("archive")}
    other.routes = {MISSING: reply({"missing": []}), LOAD: stream({"errorDetail": {"message": "no room"}, "error": "no room"})}
    told = teul("image", "push-to", f"unix://{other.path}", "a:1")
    assert (told.status, told.err.splitlines()[-1]) == (1, "no room")


@pytest.mark.parametrize(
    ("text", "arguments", "shown"),
    [
        ("ssh://far", ["--", "far"], "ssh://far"),
        ("ssh://gildong@far.away:22/", ["-l", "gildong", "-p", "22", "--", "far.away"], "ssh://gildong@far.away:22"),
        ("ssh://[::1]:2222", ["-p", "2222", "--", "::1"], "ssh://[::1]:2222"),
    ],
)
def test_how_ssh_is_called(text: str, arguments: list[str], shown: str) -> None:
    address = parse_ssh(text)
    assert ssh_command(address) == ["ssh", "-o", "ConnectTimeout=30", "-T", *arguments, "teul", "system", "dial-stdio"]
    assert (str(address), address.authority) == (shown, "api.moby.localhost")


@pytest.mark.parametrize(
    "text",
    [
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://-l@far",
        "ssh://a:b@far",
        "ssh://far/path",
        "ssh://far:99999",
        "ssh://far;x",
        "ssh://a b",
        "ssh://far\n",
    ],
)
def test_what_is_no_address_for_ssh(text: str) -> None:
    with pytest.raises(CliError, match=r"ssh://\[USER@\]HOST\[:PORT\] is meant"):
        parse_ssh(text)
