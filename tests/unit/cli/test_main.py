"""The dispatcher: global options, help, unknown commands, errors; and what may be imported on the way."""

from __future__ import annotations

import ast
import os
import pty
import signal
from pathlib import Path

import pytest

import teul.cli
from teul.cli import main as main_module
from teul.cli.command import Command
from teul.cli.context import Context, Streams
from teul.cli.format.help import command_help, wrap
from teul.cli.format.tabwriter import TabWriter, display_width
from teul.cli.main import _load, run
from teul.cli.options.parser import BOOL, Option, Options
from teul.cli.table import ALIASES, COMMANDS, COMMON, GROUPS, MISSING
from unit.cli.fake_engine import CommandLine, FakeEngine, failure, reply, stream


@pytest.mark.parametrize(
    ("arguments", "status", "err"),
    [
        (["nope"], 1, "teul: unknown command: teul nope\n\nRun 'teul --help' for more information\n"),
        (
            ["container", "nope"],
            1,
            "teul: unknown command: teul container nope\n\nUsage:  teul container\n\nRun 'teul container --help' for more information\n",
        ),
        (["--nope"], 125, "unknown flag: --nope\n\nUsage:  teul [OPTIONS] COMMAND [ARG...]\n\nRun 'teul --help' for more information\n"),
        (["ps", "--nope"], 125, "unknown flag: --nope\n\nUsage:  teul ps [OPTIONS]\n\nRun 'teul ps --help' for more information\n"),
        (
            ["container", "ps", "--nope"],
            125,
            "unknown flag: --nope\n\nUsage:  teul container ls [OPTIONS]\n\nRun 'teul container ls --help' for more information\n",
        ),
        (["-H", "a", "-H", "b", "ps"], 1, "Specify only one -H\n"),
        (["-H", "foo://x", "ps"], 1, "Failed to initialize: unable to resolve docker endpoint: invalid bind address format: foo://x\n"),
    ],
)
def test_refusals(teul: CommandLine, arguments: list[str], status: int, err: str) -> None:
    outcome = teul(*arguments)
    assert (outcome.status, outcome.out, outcome.err) == (status, "", err)


@pytest.mark.parametrize(
    ("arguments", "problem", "usage", "hint"),
    [
        (["ps", "x"], "accepts no arguments", "[OPTIONS]", "Run"),
        (["run"], "requires at least 1 argument", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "See"),
        (["exec", "c"], "requires at least 2 arguments", "[OPTIONS] CONTAINER COMMAND [ARG...]", "See"),
        (["tag", "a"], "requires 2 arguments", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Run"),
        (["logs"], "requires 1 argument", "[OPTIONS] CONTAINER", "Run"),
        (["images", "a", "b"], "requires at most 1 argument", "[OPTIONS] [REPOSITORY[:TAG]]", "Run"),
    ],
)
def test_a_wrong_number_of_arguments(teul: CommandLine, arguments: list[str], problem: str, usage: str, hint: str) -> None:
    path = f"teul {arguments[0]}"
    outcome = teul(*arguments)
    assert outcome.status == 1
    assert outcome.err == f"teul: '{path}' {problem}\n\nUsage:  {path} {usage}\n\n{hint} '{path} --help' for more information\n"


def test_what_docker_has_and_teul_has_not_is_said(teul: CommandLine) -> None:
    """In one sentence, however it is called; such a name is no command's."""
    for name, sentence in MISSING.items():
        assert name not in {**COMMON, **COMMANDS, **GROUPS}
        outcome = teul(name, "x", "--y")
        assert (outcome.status, outcome.err) == (1, f"teul: {sentence}\n")
    assert teul("image", "build", ".").err == f"teul: {MISSING['build']}\n"


def test_a_range_of_arguments_is_named() -> None:
    command = Command("x", "y", lambda *_: 0, minimum=1, maximum=2)
    with pytest.raises(Exception, match="requires at least 1 and at most 2 arguments"):
        command.check_arguments("teul x", "teul x", [])


def test_a_hint_comes_after_what_failed(teul: CommandLine, engine: FakeEngine) -> None:
    """However a command words the failure, and once; not when nothing failed."""
    engine.routes = {
        "DELETE /containers/a": reply({"message": "in use", "hint": "stop it first"}, 409),
        "DELETE /containers/b": reply({"message": "in use", "hint": "stop it first"}, 409),
        "GET /containers/json": reply({"message": "no", "hint": "wait"}, 503),
        "POST /containers/c/kill": reply({"message": "no"}, 500),
    }
    assert teul("rm", "a", "b").err == "Error response from daemon: in use\nError response from daemon: in use\nhint: stop it first\n"
    assert teul("ps").err == "Error response from daemon: no\nhint: wait\n"
    assert teul("kill", "c").err == "Error response from daemon: no\n"


def test_a_hint_in_a_stream_is_told_as_well(teul: CommandLine, engine: FakeEngine) -> None:
    detail = {"message": "no room", "hint": "make some"}
    engine.routes = {"POST /images/create": stream({"errorDetail": detail, "error": "no room"})}
    outcome = teul("pull", "x/y")
    assert outcome.status == 1
    assert outcome.err.endswith("no room\nhint: make some\n")


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path, engine: FakeEngine) -> None:
    """Docker's words; and where standard error cannot be written either, the exit code is left."""
    engine.routes = {"GET /containers/json": reply([])}
    environment = {"HOME": str(tmp_path), "TEUL_HOST": f"unix://{engine.path}"}
    err_path = tmp_path / "err"
    with open("/dev/full", "wb") as full, open(err_path, "wb") as err:
        assert run(["ps"], environment, Streams(0, full.fileno(), err.fileno())) == 1
        assert run(["--help"], environment, Streams(0, full.fileno(), full.fileno())) == 1
        assert err_path.read_text() == f"write descriptor {full.fileno()}: no space left on device\n"


def test_docker_s_settings_that_lead_away_are_told_on_a_terminal(tmp_path: Path, engine: FakeEngine) -> None:
    """And nowhere else: what a script does with its standard error is its own affair."""
    engine.routes = {"GET /containers/json": reply([])}
    environment = {"HOME": str(tmp_path), "DOCKER_HOST": f"unix://{engine.path}"}
    master_fd, slave_fd = pty.openpty()
    try:
        with open(tmp_path / "out", "wb") as out:
            assert run(["ps", "-q"], environment, Streams(0, out.fileno(), slave_fd)) == 0
        assert os.read(master_fd, 1000).decode() == f"teul: speaking to unix://{engine.path}, where DOCKER_HOST leads\r\n"
    finally:
        os.close(master_fd)
        os.close(slave_fd)
    assert CommandLine(tmp_path, {"DOCKER_HOST": f"unix://{engine.path}"})("ps", "-q").err == ""


def test_an_engine_that_docker_s_settings_lead_to_and_that_is_not_there(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, {"DOCKER_HOST": "unix:///nowhere/docker.sock"})("ps")
    assert outcome.err == (
        "Cannot connect to the engine at unix:///nowhere/docker.sock. Is it running?\n"
        "hint: DOCKER_HOST leads there; without it teul speaks to its own engine\n"
    )


def test_version_and_help_of_the_whole(teul: CommandLine) -> None:
    assert teul("-v").out == teul("--version").out
    text = teul().out
    assert text == teul("--help").out == teul("help").out
    for name in (*COMMON, *COMMANDS, *GROUPS):
        assert f"\n  {name:<11} " in text


@pytest.mark.parametrize("arguments", [["container"], ["container", "--help"], ["help", "container"]])
def test_help_of_a_group(teul: CommandLine, arguments: list[str]) -> None:
    out = teul(*arguments).out
    assert out.startswith("Usage:  teul container COMMAND\n\nManage containers\n\nCommands:\n  attach ")
    assert out.endswith("\nRun 'teul container COMMAND --help' for more information on a command.\n")


def test_help_of_a_command(teul: CommandLine) -> None:
    assert (
        teul("rm", "--help").out
        == teul("help", "rm").out
        == (
            "Usage:  teul rm [OPTIONS] CONTAINER [CONTAINER...]\n\nRemove one or more containers\n\n"
            "Aliases:\n  teul container rm, teul container remove, teul rm\n\n"
            "Options:\n  -f, --force     Force the removal of a running container (uses SIGKILL)\n"
            "  -l, --link      Remove the specified link\n  -v, --volumes   Remove anonymous volumes associated with the container\n"
        )
    )
    assert teul("container", "remove", "-h").out.startswith("Usage:  teul container rm [OPTIONS]")


def test_every_command_exists_and_has_a_help_without_holes() -> None:
    rows = [*COMMON.items(), *COMMANDS.items(), *((name, row) for _, rows in GROUPS.values() for name, row in rows.items())]
    for name, row in rows:
        command = _load(row)
        assert command.summary == row[2], name
        text = command_help("teul", f"teul {name}", command)
        assert all(option.help for option in command.options), name
        assert all(len(line) <= 80 for line in text.splitlines() if line.startswith("   ")), name
    for (group, _), target in ALIASES.items():
        assert target in GROUPS[group][1]


def test_defaults_in_the_help() -> None:
    options = (
        Option("a", BOOL, "A", default=True),
        Option("b", "string", "B", default="x"),
        Option("c", "int", "C", default=-1),
        Option("d", "list", "D", shown="[]"),
        Option("e", "bytes or -1", "E"),
        Option("f", BOOL, "F", hidden=True),
    )
    lines = command_help("teul", "teul x", Command("x", "Does x", lambda *_: 0, options=options)).splitlines()[5:]
    assert lines == [
        "      --a          A (default true)",
        '      --b string   B (default "x")',
        "      --c int      C (default -1)",
        "      --d list     D (default [])",
        "      --e bytes    E",
    ]


def test_long_descriptions_are_wrapped() -> None:
    assert wrap("one two three four", 4, 30) == "one two three four"
    assert wrap("aaaa bbbb cccc dddd eeee ffff gggg", 2, 30) == "aaaa bbbb cccc dddd\n  eeee ffff gggg"
    assert wrap("a" * 60, 2, 30) == "a" * 60
    assert wrap("a\nb", 20, 30) == "a\n" + " " * 20 + "b"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [(KeyboardInterrupt(), 130, ""), (RecursionError("bug"), None, "")],
)
def test_interruptions_end_quietly_and_bugs_do_not(
    teul: CommandLine, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int | None, text: str
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(main_module, "_run_command", fail)
    if status is None:
        with pytest.raises(type(error)):
            teul("ps")
    else:
        outcome = teul("ps")
        assert (outcome.status, outcome.err) == (status, text)


def test_a_reader_that_left_ends_us_as_it_ends_any_program(teul: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))

    def fail(*_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(main_module, "_run_command", fail)
    before = signal.getsignal(signal.SIGPIPE)
    try:
        assert teul("ps").status == 141
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert killed == [(os.getpid(), signal.SIGPIPE)]


def test_the_console_script_leaves_at_once_but_lets_the_engine_end(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(main_module, "run", lambda *_: 5)
    for arguments, expected in ((["ps"], [5]), (["serve"], [5])):
        monkeypatch.setattr("sys.argv", ["teul", *arguments])
        assert main_module.main() == 5
        assert left == expected


def test_serve_hands_everything_to_the_engine(teul: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def serve(arguments: list[str]) -> int:
        seen.append(arguments)
        return 3

    monkeypatch.setattr("teul.daemon.main.main", serve)
    assert teul_run(["serve", "--help", "--root", "/x"]) == 3
    assert seen == [["--help", "--root", "/x"]]


def teul_run(arguments: list[str]) -> int:
    from teul.cli.context import Streams

    return run(arguments, {}, Streams())


def test_an_api_error_is_told_as_docker_tells_it(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /containers/json": failure(500, "boom")}
    outcome = teul("ps")
    assert (outcome.status, outcome.err) == (1, "Error response from daemon: boom\n")
    engine.routes = {"GET /containers/json": b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"}
    assert "request returned status 500" in teul("ps").err
    engine.routes = {"GET /containers/json": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{"}
    assert "is not JSON" in teul("ps").err
    engine.routes = {"GET /containers/json": b"SMTP\r\n\r\n"}
    assert "not an HTTP/1.1 response" in teul("ps").err


def test_the_api_version_can_be_pinned(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /v1.41/containers/json": reply([])}
    teul.environment["DOCKER_API_VERSION"] = "1.41"
    assert teul("ps").status == 0


def test_config_directory_comes_from_option_environment_or_home(tmp_path: Path) -> None:
    from teul.cli.context import Streams

    assert Context({"HOME": "/h"}, Streams()).config_directory == "/h/.docker"
    assert Context({"HOME": "/h", "DOCKER_CONFIG": "/d"}, Streams()).config_directory == "/d"
    assert Context({"DOCKER_CONFIG": "/d"}, Streams(), config_directory="/c").config_directory == "/c"


FAST = ["run", "exec", "ps"]
# What costs milliseconds. `teul run` is to start faster than a Go program.
HEAVY = {
    "argparse",
    "asyncio",
    "dataclasses",
    "enum",
    "functools",
    "http",
    "json",
    "logging",
    "pathlib",
    "re",
    "shutil",
    "signal",
    "socket",
}
HEAVY |= {
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
    "urllib",
    "collections",
    "contextlib",
    "datetime",
    "hashlib",
    "msgspec",
    "aiohttp",
}


def imported_at_load(name: str, seen: dict[str, set[str]]) -> None:
    """Fill `seen` with the modules of ours that loading `name` loads, and what each imports from elsewhere."""
    if name in seen:
        return
    root = Path(teul.cli.__file__).parent.parent
    relative = Path(*name.split(".")[1:])
    path = root / relative / "__init__.py" if (root / relative).is_dir() else (root / relative).with_suffix(".py")
    seen[name] = set()
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for found in names:
            if found.split(".")[0] == "teul":
                imported_at_load(found, seen)
            else:
                seen[name].add(found.split(".")[0])


@pytest.mark.parametrize("module", ["teul.cli.main", *(f"teul.cli.commands.{name}" for name in FAST)])
def test_the_fast_path_imports_nothing_heavy(module: str) -> None:
    seen: dict[str, set[str]] = {}
    for name in (module, "teul.cli.session", "teul.cli.endpoint", "teul.cli.engine", "teul.client.api", "teul.cli.format.listing"):
        imported_at_load(name, seen)
    heavy = {name: found & HEAVY for name, found in seen.items() if found & HEAVY}
    assert not heavy


def test_columns_line_up() -> None:
    writer = TabWriter(minimum=5, padding=2)
    assert writer.render("a\tb\tc\nlonger\tb\tc\n") == "a       b    c\nlonger  b    c\n"
    assert writer.render("plain\n") == "plain\n"
    assert writer.render("a\tb\nalone\nlonger-one\tb\n") == "a    b\nalone\nlonger-one  b\n"
    assert writer.render("日本\tb\nabcdef\tb\n") == "日本    b\nabcdef  b\n"
    assert display_width("日本a") == 5


def test_options_read_by_their_type() -> None:
    options = Options((Option("a", "string", "A"), Option("n", "int", "N")), {"n": 3})
    assert (options.text("a"), options.number("a"), options.texts("a"), options.number("n"), options.text("n")) == ("", 0, [], 3, "3")
