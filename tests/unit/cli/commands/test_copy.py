"""`teul cp`, `save`, `export`, `diff` and `image prune` against a fake engine: requests, texts and exit codes."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from teul.cli.context import Streams
from unit.cli.copying.test_archives import archive
from unit.cli.fake_engine import Answer, CommandLine, FakeEngine, empty, failure, reply

DIRECTORY, LINK, DEVICE = 1 << 31, 1 << 27, 1 << 26


def found(mode: int = 0o644, link: str = "", body: bytes = b"") -> bytes:
    """The answer to a question about a path, with its archive."""
    status = base64.b64encode(json.dumps({"name": "x", "size": 1, "mode": mode, "linkTarget": link}).encode()).decode()
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nX-Docker-Container-Path-Stat: {status}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


ABSENT = b"HTTP/1.1 404 X\r\nContent-Length: 40\r\n\r\n"
HEAD, GET, PUT = (f"{method} /containers/box/archive" for method in ("HEAD", "GET", "PUT"))


@pytest.fixture(autouse=True)
def in_the_directory(teul: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(teul.directory)


def sent(engine: FakeEngine) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(engine.made("PUT", "/containers/box/archive")[0].body)) as tar:
        return {member.name: file.read() if (file := tar.extractfile(member)) is not None else None for member in tar}


def test_out_of_a_container(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {GET: found(body=archive(("one", tarfile.REGTYPE, b"1")))}
    outcome = teul("cp", "box:/d/one", "two")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert (teul.directory / "two").read_text() == "1"
    assert engine.requests[0].query == {"path": ["/d/one"]}


def test_success_is_told_when_asked_for(engine: FakeEngine, teul: CommandLine) -> None:
    data = archive(("one", tarfile.REGTYPE, b"1"))
    engine.routes = {GET: found(body=data), HEAD: found(DIRECTORY), PUT: empty(200)}
    outcome = teul("container", "cp", "--quiet=false", "box:/d/one", "two")
    assert outcome.err == f"Successfully copied {len(data) / 1000:.3g}kB to {teul.directory}/two\n"
    assert teul("cp", "-q=false", "two", "box:/d").err == "Successfully copied 2.05kB to box:/d\n"


def test_a_link_is_followed_on_demand_and_keeps_its_name(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {HEAD: found(LINK, "../e/target"), GET: found(body=archive(("target", tarfile.REGTYPE, b"1")))}
    (teul.directory / "dir").mkdir()
    assert teul("cp", "-L", "box:/d/link", "dir").status == 0
    assert (teul.directory / "dir" / "link").read_text() == "1"
    assert teul("cp", "-L", "box:/d/link", "other").status == 0
    assert (teul.directory / "other").read_text() == "1"
    assert [request.query["path"] for request in engine.requests] == [["/d/link"], ["/e/target"]] * 2


def test_archives_go_through_as_they_are(engine: FakeEngine, teul: CommandLine) -> None:
    data = archive(("one", tarfile.REGTYPE, b"1"))
    engine.routes = {GET: found(body=data), HEAD: found(DIRECTORY), PUT: empty(200)}
    assert teul("cp", "box:/d", "-").out.encode() == data
    assert teul("cp", "-a", "-", "box:/d", stdin=b"anything").status == 0
    request = engine.made("PUT", "/containers/box/archive")[0]
    assert request.body == b"anything"
    assert request.query == {"path": ["/d"], "noOverwriteDirNonDir": ["true"], "copyUIDGID": ["true"]}
    assert request.headers["content-type"] == "application/x-tar"


@pytest.mark.parametrize(
    ("there", "source", "destination", "path", "names"),
    [
        ([found(DIRECTORY)], "file", "/d", "/d", ["file"]),
        ([found()], "file", "/d/other", "/d", ["other"]),
        ([ABSENT], "file", "/d/new", "/d", ["new"]),
        ([ABSENT], "tree", "/d/new", "/d", ["new", "new/below"]),
        ([found(DIRECTORY)], "tree/.", "/d", "/d", [".", "./below"]),
        ([found(LINK, "e"), found(DIRECTORY)], "file", "/d/link", "/d/e", ["file"]),
        ([found(LINK, "/e/f"), ABSENT], "file", "/d/link", "/e", ["f"]),
    ],
)
def test_into_a_container(
    engine: FakeEngine, teul: CommandLine, there: list[Answer], source: str, destination: str, path: str, names: list[str]
) -> None:
    (teul.directory / "file").write_text("1")
    (teul.directory / "tree").mkdir()
    (teul.directory / "tree" / "below").write_text("2")
    engine.routes = {HEAD: there, PUT: empty(200)}
    outcome = teul("cp", source, f"box:{destination}")
    assert (outcome.status, outcome.err) == (0, "")
    assert list(sent(engine)) == names
    assert engine.made("PUT", "/containers/box/archive")[0].query == {"path": [path], "noOverwriteDirNonDir": ["true"]}


@pytest.mark.parametrize(
    ("arguments", "err"),
    [
        (["", "box:/d"], "source can not be empty"),
        (["file", ""], "destination can not be empty"),
        (["one:/a", "two:/b"], "copying between containers is not supported"),
        (["file", "other"], "must specify at least one container source"),
        (["none", "box:/d"], "lstat {}/none: no such file or directory"),
        (["-", "box:/file"], 'destination "box:/file" must be a directory'),
        (["file", "box:/device"], 'destination "box:/device" must be a directory or a regular file: got a device'),
        (["tree", "box:/file"], "cannot copy directory"),
        (["box:/d", "none/x"], 'invalid output path: directory "{}/none" does not exist'),
        (["box:/d", "/dev/null"], 'invalid output path: "/dev/null" must be a directory or a regular file: got a device'),
    ],
)
def test_refusals(engine: FakeEngine, teul: CommandLine, arguments: list[str], err: str) -> None:
    def answer(request: Any, connection: Any) -> None:
        connection.sendall(found({"/file": 0o644, "/device": DEVICE}.get(request.query["path"][0], DIRECTORY)))

    (teul.directory / "file").write_text("1")
    (teul.directory / "tree").mkdir()
    engine.routes = {HEAD: answer}
    outcome = teul("cp", *arguments)
    assert (outcome.status, outcome.out, outcome.err) == (1, "", err.format(teul.directory) + "\n")
    assert engine.made("PUT", "/containers/box/archive") == []


def test_what_the_engine_refuses(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {HEAD: found(DIRECTORY), PUT: failure(403, "container rootfs is marked read-only"), GET: failure(404, "Could not find")}
    (teul.directory / "file").write_text("1")
    assert teul("cp", "file", "box:/d").err == "Error response from daemon: container rootfs is marked read-only\n"
    assert teul("cp", "box:/d", "here").err == "Error response from daemon: Could not find\n"
    engine.routes[GET] = reply({})
    assert teul("cp", "box:/d", "here").err.startswith("unable to get resource stat from response: unable to decode container path stat")


TAR = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nContent-Length: 7\r\n\r\narchive"
CUT = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n7\r\narchive\r\nnonsense\r\n"


@pytest.mark.parametrize(
    ("command", "route", "query"),
    [
        (["save", "one", "two:1"], "GET /images/get", {"names": ["one", "two:1"]}),
        (["image", "save", "one"], "GET /images/get", {"names": ["one"]}),
        (
            ["save", "--platform", "linux/arm64", "one"],
            "GET /images/get",
            {"names": ["one"], "platform": ['{"architecture":"arm64","os":"linux"}']},
        ),
        (["export", "box"], "GET /containers/box/export", {}),
        (["container", "export", "box"], "GET /containers/box/export", {}),
    ],
)
def test_archives_to_stdout_or_a_file(
    engine: FakeEngine, teul: CommandLine, command: list[str], route: str, query: dict[str, list[str]]
) -> None:
    engine.routes = {route: TAR}
    assert teul(*command).out == "archive"
    assert engine.requests[0].query == query
    outcome = teul(*command, "-o", "a.tar")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert (teul.directory / "a.tar").read_bytes() == b"archive"
    assert (teul.directory / "a.tar").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("verb", "failed"), [("save", "failed to save image"), ("export", "failed to export container")])
@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("none/a.tar", "invalid output path: stat none: no such file or directory"),
        ("file/a.tar", "invalid output path: stat file: not a directory"),
        ("dir", "cannot write to a directory"),
        ("link", "cannot write to a symbolic link directly"),
        ("pipe", "cannot write to a named pipe (FIFO)"),
        ("/dev/null", "cannot write to a character device file"),
    ],
)
def test_places_for_no_archive(teul: CommandLine, engine: FakeEngine, verb: str, failed: str, output: str, why: str) -> None:
    (teul.directory / "file").write_text("")
    (teul.directory / "dir").mkdir()
    (teul.directory / "link").symlink_to("file")
    os.mkfifo(teul.directory / "pipe")
    outcome = teul(verb, "-o", output, "x")
    assert (outcome.status, outcome.err) == (1, f"{failed}: {why}\n")
    assert engine.requests == []


def test_an_archive_that_breaks_off_leaves_no_file(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /images/get": [CUT, failure(404, "reference does not exist")]}
    before = sorted(path.name for path in teul.directory.iterdir())
    assert teul("save", "-o", "a.tar", "x").status == 1
    assert teul("save", "-o", "a.tar", "x").err == "Error response from daemon: reference does not exist\n"
    assert [path.name for path in sorted(teul.directory.iterdir()) if path.name not in {"stdin", "stdout", "stderr"}] == before


def test_archives_are_not_for_terminals(teul: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Streams, "stdout_is_terminal", property(lambda _: True))
    for verb in ("save", "export"):
        assert teul(verb, "x").err == "cowardly refusing to save to a terminal. Use the -o flag or redirect\n"


def test_a_platform_that_is_none(teul: CommandLine) -> None:
    assert teul("save", "--platform", "a b", "x").err.startswith("invalid platform: ")


def test_diff(engine: FakeEngine, teul: CommandLine) -> None:
    changes = [{"Kind": kind, "Path": f"/{kind}"} for kind in range(3)]
    engine.routes = {"GET /containers/box/changes": [reply(changes), reply(None)]}
    assert teul("diff", "box").out == "C /0\nA /1\nD /2\n"
    assert teul("container", "diff", "box").out == ""
    assert teul("diff", "").err == "Container name cannot be empty\n"


REPORT = {"ImagesDeleted": [{"Untagged": "x:1"}, {"Deleted": "sha256:0"}], "SpaceReclaimed": 2_000_000}
DANGLING = "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
DELETED = "Deleted Images:\nuntagged: x:1\ndeleted: sha256:0\n\nTotal reclaimed space: 2MB\n"


@pytest.mark.parametrize(("answer", "out"), [(b"y\n", DELETED), (b" Y ", DELETED), (b"n\n", ""), (b"", ""), (b"yes\n", "")])
def test_prune_asks_first(engine: FakeEngine, teul: CommandLine, answer: bytes, out: str) -> None:
    engine.routes = {"POST /images/prune": reply(REPORT)}
    outcome = teul("image", "prune", stdin=answer)
    assert (outcome.status, outcome.out, outcome.err) == (0, DANGLING + out, "")
    assert len(engine.requests) == (1 if out else 0)


def test_prune_of_everything_unused(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /images/prune": reply({"ImagesDeleted": None, "SpaceReclaimed": 5})}
    assert teul("image", "prune", "-a", stdin=b"n").out.startswith("WARNING! This will remove all images without at least one container")
    outcome = teul("image", "prune", "-a", "-f", "--filter", "until=24h")
    assert outcome.out == "Total reclaimed space: 0B\n"
    assert json.loads(engine.requests[0].query["filters"][0]) == {"until": {"24h": True}, "dangling": {"false": True}}


def test_prune_filters_of_the_settings_give_way(engine: FakeEngine, teul: CommandLine) -> None:
    directory = Path(teul.directory, ".docker")
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"pruneFilters": ["label!=keep", "label=a", "until=1h", "nothing"]}))
    engine.routes = {"POST /images/prune": reply(REPORT)}
    teul("image", "prune", "-f", "--filter", "label=keep")
    assert json.loads(engine.requests[0].query["filters"][0]) == {
        "label": {"keep": True, "a": True},
        "dangling": {"true": True},
        "until": {"1h": True},
    }
