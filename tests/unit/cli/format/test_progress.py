"""Progress of pulls: lines for files, lines that change in place for terminals."""

from __future__ import annotations

from typing import Any

import pytest

from teul.cli.format.progress import Renderer, progress_bar


@pytest.mark.parametrize(
    ("detail", "text"),
    [
        ({}, ""),
        ({"current": 1500}, "   1.5kB"),
        ({"current": 500, "total": 1000}, f"[{'=' * 25}>{' ' * 24}]      500B/1kB"),
        ({"current": 1000, "total": 1000}, f"[{'=' * 50}]       1kB/1kB"),
        ({"current": 2000, "total": 1000}, "     2kB"),
    ],
)
def test_bars(detail: dict[str, Any], text: str) -> None:
    assert progress_bar(detail) == text


MESSAGES: list[dict[str, Any]] = [
    {"status": "Pulling from x", "id": "latest"},
    {"status": "Waiting", "id": "a"},
    {"status": "Waiting", "id": "b"},
    {"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}},
    {"status": "Done"},
    {"stream": "text\n"},
    {},
]


def test_files_get_lines_without_bars() -> None:
    renderer = Renderer(terminal=False)
    assert "".join(map(renderer.render, MESSAGES)) == "latest: Pulling from x\na: Waiting\nb: Waiting\nDone\ntext\n"


def test_terminals_get_lines_that_are_overwritten() -> None:
    renderer = Renderer(terminal=True)
    texts = [renderer.render(message) for message in MESSAGES]
    assert texts[2] == "\r\x1b[Kb: Waiting\n"
    assert texts[3].startswith("\x1b[2A\r\x1b[Ka: Downloading [")
    assert texts[3].endswith("\r\x1b[2B")
    assert texts[4:] == ["Done\n", "text\n", ""]
