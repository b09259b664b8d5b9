"""Progress of pulls: lines for files, lines that change in place for terminals."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from teul.cli.context import Context, Streams
from teul.cli.errors import CliError
from teul.cli.format.progress import Screen, display, plain_text, progress_text


@pytest.mark.parametrize(
    ("detail", "columns", "text"),
    [
        ({}, 200, ""),
        ({"current": 1500}, 200, "   1.5kB"),
        ({"current": 3, "units": "s"}, 200, "3 s"),
        ({"current": 500, "total": 1000}, 200, f"[{'=' * 25}>{' ' * 25}]     500B/1kB"),
        ({"current": 500, "total": 1000}, 110, "    500B/1kB"),
        ({"current": 1000, "total": 1000}, 200, f"[{'=' * 50}>]      1kB/1kB"),
        ({"current": 2000, "total": 1000}, 100, "     2kB"),
        ({"current": 1, "total": 4, "units": "files"}, 100, "1/4 files"),
        ({"current": 5, "total": 4, "units": "files"}, 100, "5 files"),
        ({"current": 1, "total": 4, "hidecounts": True}, 200, f"[{'=' * 12}>{' ' * 38}] "),
        ({"current": 1, "total": 4, "units": "s", "start": 70}, 100, "1/4 s 1m30s"),
        ({"current": 1, "total": 4, "units": "s", "start": 70}, 50, "1/4 s"),
        ({"current": 1, "total": 1201, "units": "s", "start": 97}, 51, "1/1201 s 1h0m0s"),
        ({"current": 4, "total": 4, "units": "s", "start": 70}, 51, "4/4 s"),
    ],
)
def test_progress(detail: dict[str, Any], columns: int, text: str) -> None:
    assert progress_text(detail, columns, now=100) == text


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"status": "Pulling from x", "id": "latest"}, "latest: Pulling from x\n"),
        ({"status": "Pull complete", "id": "a", "progressDetail": {}}, "a: Pull complete\n"),
        ({"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}, "progress": "[>]"}, ""),
        ({"status": "Status: done"}, "Status: done\n"),
        ({"stream": "text"}, "text"),
        ({"status": "die", "id": "a", "from": "image", "timeNano": 1_000_000_002}, "1970-01-01T00:00:01.000000002Z a: (from image) die\n"),
        ({"status": "old", "progress": "[=>]"}, "old [=>]"),
        ({}, "\n"),
    ],
)
def test_files_get_lines_without_bars(message: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain_text(message) == text


class Display:
    """A terminal of 12 lines and 60 columns, and what is written to it."""

    def __init__(self) -> None:
        self.master_fd, self.fd = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def shown(self) -> str:
        """Everything that was written; ends the terminal."""
        os.close(self.fd)
        text = b""
        while True:
            try:
                data = os.read(self.master_fd, 65536)
            except OSError:  # kernel: EIO is how a terminal without a user says that this was all
                return text.decode()
            text += data


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Display]:
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    display = Display()
    yield display
    os.close(display.master_fd)


def visible(text: str) -> list[str]:
    """The lines that a terminal shows in the end: enough of one for what is used here."""
    lines, row, column = [""], 0, 0
    position = 0
    while position < len(text):
        character = text[position]
        if text.startswith("\x1b[", position):
            end = next(index for index in range(position + 2, len(text)) if text[index].isalpha())
            command, argument = text[end], text[position + 2 : end]
            assert command in "AKhlm", f"unknown to this terminal: {text[position : end + 1]!r}"
            if command == "A":
                row -= int(argument or 1)
            elif command == "K":
                lines[row] = "" if argument == "2" else lines[row][:column]
            position = end
        elif character == "\n":
            row += 1
            lines += [""] * (row >= len(lines))
        elif character == "\r":
            column = 0
        else:
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
        position += 1
    assert row >= 0
    return [line.rstrip() for line in lines]


def test_terminals_get_lines_that_are_rewritten(terminal: Display) -> None:
    """Only what has a progress has a line of its own; the cursor is there again at the end."""
    screen = Screen(terminal.fd, terminal.write)
    messages: list[dict[str, Any]] = [
        {"status": "Pulling from x", "id": "latest"},
        {"status": "Waiting", "id": "a", "progressDetail": {}},
        {"status": "Waiting", "id": "b", "progressDetail": {}},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}},
        {"status": "Pull complete", "id": "b", "progressDetail": {}},
        {"status": "Digest: sha256:0"},
    ]
    for message in messages:
        screen.show(message)
    screen.end()
    text = terminal.shown()
    assert visible(text) == ["latest: Pulling from x", "a: Downloading       1B/2B", "b: Pull complete", "Digest: sha256:0", ""]
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is hidden"


def test_lines_longer_than_the_terminal_are_cut_and_names_are_no_markup(terminal: Display) -> None:
    screen = Screen(terminal.fd, terminal.write)
    screen.show({"status": "[bold]" + "x" * 80, "id": "a", "progressDetail": {}})
    screen.end()
    assert visible(terminal.shown()) == ["a: [bold]" + "x" * 51, ""]


def test_more_lines_than_the_terminal_has_are_all_there_in_the_end(terminal: Display) -> None:
    screen = Screen(terminal.fd, terminal.write)
    for number in range(20):
        screen.show({"status": "Waiting", "id": f"{number:02}", "progressDetail": {}})
    screen.end()
    text = terminal.shown()
    last = text[text.rindex("00: Waiting") :]
    assert [f"{number:02}: Waiting" in last for number in range(20)] == [True] * 20


def test_progress_without_a_name_has_one_line(terminal: Display) -> None:
    screen = Screen(terminal.fd, terminal.write)
    screen.show({"status": "Waiting", "id": "a", "progressDetail": {}})
    for current in (1, 2):
        screen.show({"status": "Importing", "progressDetail": {"current": current}})
    screen.end()
    assert visible(terminal.shown()) == ["a: Waiting", "Importing       2B", ""]


def interrupted() -> Iterator[dict[str, Any]]:
    yield {"status": "Waiting", "id": "a", "progressDetail": {}}
    raise KeyboardInterrupt


def failed() -> Iterator[dict[str, Any]]:
    yield {"status": "Waiting", "id": "a", "progressDetail": {}}
    yield {"errorDetail": {"message": "no space left"}}


@pytest.mark.parametrize("messages", [interrupted, failed])
def test_the_terminal_is_left_in_order(terminal: Display, messages: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Whatever ends the work: the lines stay, and the cursor is visible below them."""
    context = Context({}, Streams(0, terminal.fd, terminal.fd))
    with pytest.raises((KeyboardInterrupt, CliError)):
        display(context, messages(), to_stdout=True)
    text = terminal.shown()
    assert visible(text) == ["a: Waiting", ""]
    assert re.findall(r"\x1b\[\?25[hl]", text)[-1] == "\x1b[?25h"
