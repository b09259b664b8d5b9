"""The files of a log at their edges: half lines, many blocks, readers that are given up."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from teul.services.containers.log_files import LogFiles


def read_all(files: LogFiles) -> bytes:
    return b"".join(iter(files.read_lines, b""))


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    """Also where the last lines are wanted: the end of a file is not always the end of a line."""
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthr")
    readers = {tail: LogFiles(str(path), tail) for tail in (None, 0, 1, 2, 5)}
    assert {tail: read_all(files) for tail, files in readers.items()} == {
        None: b"one\ntwo\n",
        0: b"",
        1: b"two\n",
        2: b"one\ntwo\n",
        5: b"one\ntwo\n",
    }
    with path.open("ab") as file:
        file.write(b"ee\n")
    for files in readers.values():
        assert read_all(files) == b"three\n"
        files.close()


def test_half_a_line_at_the_end_of_a_full_file_is_not_half_of_the_next_files_first(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_bytes(b"one\nha")
    (tmp_path / "log").write_bytes(b"two\n")
    files = LogFiles(str(tmp_path / "log"))
    assert read_all(files) == b"one\ntwo\n"
    files.close()


@pytest.mark.parametrize("length", [1, 1 << 16, (1 << 16) - 1, (1 << 20) + 5, 3 << 20])
def test_lines_may_be_longer_than_what_is_read_at_once(tmp_path: Path, length: int) -> None:
    lines = [letter * length + b"\n" for letter in (b"a", b"b", b"c")]
    (tmp_path / "log.1").write_bytes(lines[0])
    (tmp_path / "log").write_bytes(lines[1] + lines[2])
    for tail in range(4):
        files = LogFiles(str(tmp_path / "log"), tail)
        assert read_all(files) == b"".join(lines[3 - tail :])
        files.close()


def test_a_log_that_comes_late_is_read_from_its_beginning(tmp_path: Path) -> None:
    files = LogFiles(str(tmp_path / "log"))
    assert read_all(files) == b""
    (tmp_path / "log").write_bytes(b"one\n")
    assert read_all(files) == b"one\n"
    files.close()


def test_files_are_closed_when_their_reader_is_done_and_not_under_its_hands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A client that leaves gives its reading thread up. What that still opens is closed, and what it still reads is not somebody else's."""
    (tmp_path / "log").write_bytes(b"one\n")
    before = sorted(os.listdir("/proc/self/fd"))
    files = LogFiles(str(tmp_path / "log"))
    reading, go_on = threading.Event(), threading.Event()
    read = os.pread

    def slow(fd: int, size: int, at: int) -> bytes:
        reading.set()
        assert go_on.wait(20)
        return read(fd, size, at)

    monkeypatch.setattr(os, "pread", slow)
    results: list[Any] = []
    reader = threading.Thread(target=lambda: results.append(files.read_lines()))
    reader.start()
    assert reading.wait(20)
    closer = threading.Thread(target=files.close)
    closer.start()
    go_on.set()
    reader.join(20)
    closer.join(20)
    assert results == [b"one\n"]
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert files.read_lines() == b"", "a thread that comes after the close opens nothing"
    assert sorted(os.listdir("/proc/self/fd")) == before
