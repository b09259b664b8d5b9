"""A log is read while it is rotated: whatever moment the rotation picks, each line is read once, and in order."""

from __future__ import annotations

import asyncio
import builtins
import errno
import gzip
import os
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from teul.linux.loop import Loop
from teul.model.log import LogEntry, LogQuery
from teul.runtime.keeper import compression
from teul.runtime.keeper.compression import Compressor
from teul.runtime.keeper.logs import LogFile
from teul.services.containers.logs import read_log
from teul.services.watching import DirectoryWatcher

LINES_PER_FILE = 4
LINE_BYTES = len(b'{"log":"0001\\n","stream":"stdout","time":"2026-01-02T03:04:05.000000001Z"}\n')


class AtOnce(Compressor):
    """Compresses where the real one would begin to."""

    def __init__(self, path: str) -> None:
        super().__init__(path, Loop(lambda _owner, _error: None), lambda _pid: None)

    def _fork(self, source: int) -> None:
        compression._write(source, self._unfinished)
        status = os.fstat(source)
        self._put_in_place((status.st_dev, status.st_ino))
        self._look()


class Program:
    """Writes numbered lines, a known number of them to a file."""

    compresses = False

    def __init__(self, path: Path, *, max_files: int = 3) -> None:
        self.path = str(path)
        compressor = AtOnce(self.path) if self.compresses else None
        self.log = LogFile(self.path, max_bytes=LINE_BYTES * LINES_PER_FILE, max_files=max_files, compressor=compressor)
        self.written = 0

    def write(self, lines: int) -> None:
        for _ in range(lines):
            self.written += 1
            self.log.write(1, b"%04d\n" % self.written)

    def rotate(self, times: int = 1) -> None:
        """Write until the file has been changed `times` times, and some lines more."""
        self.write(times * LINES_PER_FILE)

    def oldest_kept(self) -> int:
        """The first number that is in any file."""
        files = [name for name in Path(self.path).parent.iterdir() if name.name.startswith(Path(self.path).name)]
        contents = [gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes() for file in files]
        return min(int(line[8:12]) for content in contents for line in content.splitlines())


class Moment:
    """Has `act` done before the call number `at` by which a reader looks at the files of a log."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: str, at: int, act: Callable[[], None]) -> None:
        self.came = False
        self._calls = 0
        self._inside = False
        self._path = path
        self._at = at
        self._act = act
        for owner, name in ((builtins, "open"), (os, "open"), (os, "stat"), (os, "fstat"), (os, "pread"), (os, "listdir")):
            monkeypatch.setattr(owner, name, self._before(getattr(owner, name)))

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(subject: Any, *arguments: Any, **options: Any) -> Any:
            if not self._inside and (isinstance(subject, int) or str(subject).startswith(self._path)):
                if self._calls == self._at:
                    self._inside = True
                    self._act()
                    self._inside = False
                    self.came = True
                self._calls += 1
            return call(subject, *arguments, **options)

        return counted


@pytest.fixture
def plain_path(tmp_path: Path) -> Path:
    """Where the log is: LINE_BYTES holds if a moment's fraction has nine digits."""
    return tmp_path / "container-json.log"


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def log_path(plain_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with and without its full files compressed."""
    monkeypatch.setattr(Program, "compresses", request.param)
    return plain_path


@pytest.fixture(autouse=True)
def even_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of one length."""
    ticks = count(1_767_323_045_000_000_001, 10)
    monkeypatch.setattr("teul.runtime.keeper.logs.time.time_ns", lambda: next(ticks))


def number(entry: LogEntry) -> int:
    return int(entry.data)


def read_all(program: Program, tail: int | None = None) -> list[int]:
    async def read() -> list[int]:
        return [number(entry) async for entry in read_log(program.path, LogQuery(tail=tail), None, DirectoryWatcher())]

    return asyncio.run(read())


def every_moment(monkeypatch: pytest.MonkeyPatch, log_path: Path, times: int) -> Iterator[tuple[Program, Moment]]:
    """For each call of a reader a log of its own, which is rotated `times` times before that call; ends when the reader makes no more."""
    for at in range(100):
        program = Program(log_path.with_name(f"{at}.log"))
        program.write(LINES_PER_FILE * 3 - 1)
        with monkeypatch.context() as patches:
            moment = Moment(patches, program.path, at, lambda: program.rotate(times))  # noqa: B023 # called in this round
            yield program, moment
        if not moment.came:
            assert at > 5, "the reader was not seen at its work"
            return
    raise AssertionError("the reader does not come to an end")


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_log_that_is_rotated_under_its_reader_is_read_once(monkeypatch: pytest.MonkeyPatch, log_path: Path, times: int) -> None:
    """Before each call of the reader: no line twice, none left out, none of those missing that are kept at the end."""
    for at, (program, moment) in enumerate(every_moment(monkeypatch, log_path, times)):
        before = program.written
        numbers = read_all(program)
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), f"before call {at}: {numbers}"
        assert numbers[-1] >= before, f"before call {at}"
        if moment.came:
            assert numbers[0] <= program.oldest_kept(), f"before call {at}"
        else:
            assert numbers[0] == 1


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("tail", [1, 5, 9])
def test_the_last_lines_are_the_last_ones_also_under_rotation(
    monkeypatch: pytest.MonkeyPatch, log_path: Path, tail: int, times: int
) -> None:
    """`tail` lines before some moment of the reading, and all that came after that moment."""
    for at, (program, moment) in enumerate(every_moment(monkeypatch, log_path, times)):
        before = program.written
        numbers = read_all(program, tail)
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), f"before call {at}: {numbers}"
        assert before - tail + 1 <= numbers[0] <= program.written - tail + 1, f"before call {at}: {numbers}"
        assert numbers[-1] >= before, f"before call {at}: {numbers}"
        if not moment.came:
            assert len(numbers) == tail


class Follower:
    """Reads what comes, in steps that the test decides; nothing of it runs between them."""

    def __init__(self, runner: asyncio.Runner, program: Program) -> None:
        self._runner = runner
        self._ended: asyncio.Future[None] = runner.get_loop().create_future()
        self._watcher = DirectoryWatcher()
        self._entries: AsyncIterator[LogEntry] = read_log(program.path, LogQuery(follow=True), self._ended, self._watcher)

    async def next_lines(self, lines: int) -> list[int]:
        async with asyncio.timeout(20):
            return [number(await anext(self._entries)) for _ in range(lines)]

    def read(self, lines: int) -> list[int]:
        return self._runner.run(self.next_lines(lines))

    def read_rest(self) -> list[int]:
        async def read() -> list[int]:
            self._ended.set_result(None)
            numbers = [number(entry) async for entry in self._entries]
            self._watcher.close()
            return numbers

        return self._runner.run(read())


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_follower_that_is_behind_reads_every_file_that_is_left(runner: asyncio.Runner, log_path: Path, times: int) -> None:
    """The file that it has open it reads to the end, even if that has no name any more, and then each one that came after."""
    program = Program(log_path)
    program.write(2)
    follower = Follower(runner, program)
    assert follower.read(2) == [1, 2]
    program.rotate(times)
    assert follower.read_rest() == list(range(3, program.written + 1))


def test_a_follower_that_is_too_far_behind_goes_on_with_the_oldest_file_that_is_left(runner: asyncio.Runner, log_path: Path) -> None:
    program = Program(log_path)
    program.write(2)
    follower = Follower(runner, program)
    assert follower.read(2) == [1, 2]
    program.rotate(7)
    oldest = program.oldest_kept()
    assert oldest > 5
    assert follower.read_rest() == [3, 4, *range(oldest, program.written + 1)]


@pytest.mark.parametrize("instances", [0, 1])
def test_a_follower_that_the_host_tells_nothing_gets_its_lines_all_the_same(
    monkeypatch: pytest.MonkeyPatch, runner: asyncio.Runner, log_path: Path, instances: int
) -> None:
    """Without an inotify instance as with one: lines that come while the follower waits are read, through rotations."""
    program = Program(log_path)
    program.write(1)
    follower = Follower(runner, program)
    monkeypatch.setattr("teul.services.watching._POLL_SECONDS", 0.01)
    if not instances:
        monkeypatch.setattr("teul.linux.inotify.open_instance", refuse_instance)

    async def write_and_read() -> list[int]:
        numbers = await follower.next_lines(1)
        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(follower.next_lines(LINES_PER_FILE * 2))
                await asyncio.sleep(0)
                await asyncio.to_thread(program.rotate, 2)
            numbers += waiting.result()
        return numbers

    assert runner.run(write_and_read()) == list(range(1, program.written + 1))
    assert follower.read_rest() == []


def refuse_instance() -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("times", [1, 2])
def test_a_follower_misses_nothing_whenever_the_log_is_rotated(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch, log_path: Path, times: int
) -> None:
    """In particular between its finding nothing more in a file and its looking for the next one."""
    for at in range(100):
        program = Program(log_path.with_name(f"{at}.log"))
        program.write(2)
        follower = Follower(runner, program)
        numbers = follower.read(2)
        with monkeypatch.context() as patches:
            moment = Moment(patches, program.path, at, lambda: program.rotate(times))  # noqa: B023 # called in this round
            numbers += follower.read_rest()
        assert numbers == list(range(1, len(numbers) + 1)), f"before call {at}"
        if not moment.came:
            assert at > 1, "the reader was not seen at its work"
            return


def test_a_log_of_one_file_is_read_to_its_end_before_the_next_one(runner: asyncio.Runner, log_path: Path) -> None:
    """The full file has no name any more; whoever reads it goes on."""
    program = Program(log_path, max_files=1)
    program.write(2)
    follower = Follower(runner, program)
    assert follower.read(1) == [1]
    program.rotate()
    assert program.oldest_kept() == LINES_PER_FILE + 1
    assert follower.read_rest() == [2, 3, 4, 5, 6]


def test_a_number_that_a_broken_off_rotation_left_out_does_not_hide_the_older_files(plain_path: Path) -> None:
    program = Program(plain_path, max_files=4)
    program.write(LINES_PER_FILE * 2 + 1)
    os.rename(f"{plain_path}.2", f"{plain_path}.3")
    assert read_all(program) == list(range(1, program.written + 1))
    os.rename(f"{plain_path}.1", f"{plain_path}.2")
    os.rename(plain_path, f"{plain_path}.1")
    assert read_all(program) == list(range(1, program.written + 1)), "there is no file that has the log's own name"


def test_what_a_full_disk_took_back_is_not_read_twice(runner: asyncio.Runner, plain_path: Path) -> None:
    """Half a line was written, read, and cut off again, for there was no room for the rest."""
    program = Program(plain_path)
    program.write(2)
    follower = Follower(runner, program)
    assert follower.read(1) == [1]
    size = plain_path.stat().st_size
    with plain_path.open("ab") as file:
        file.write(b'{"log":"half')
    assert follower.read(1) == [2]
    os.truncate(plain_path, size)
    program.write(1)
    assert follower.read_rest() == [3]


def test_a_log_that_was_emptied_is_read_from_its_beginning(runner: asyncio.Runner, plain_path: Path) -> None:
    """So is one that a keeper of an older version lets begin anew in its place."""
    program = Program(plain_path)
    program.write(3)
    follower = Follower(runner, program)
    assert follower.read(3) == [1, 2, 3]
    os.truncate(plain_path, 0)
    program.write(1)
    assert follower.read_rest() == [4]


def test_a_container_without_a_log_has_no_lines(tmp_path: Path) -> None:
    async def read() -> list[LogEntry]:
        return [entry async for entry in read_log(str(tmp_path / "none"), LogQuery(), None, DirectoryWatcher())]

    assert asyncio.run(read()) == []


@pytest.mark.parametrize("tail", [0, 1, 4, 5, 7, 20])
def test_the_last_lines_of_compressed_files(log_path: Path, tail: int) -> None:
    program = Program(log_path)
    program.write(LINES_PER_FILE * 3 - 1)
    assert read_all(program, tail) == list(range(1, program.written + 1))[-tail:] if tail else read_all(program, tail) == []


def test_what_a_killed_keeper_left_of_a_compression_is_put_in_order(log_path: Path) -> None:
    """Killed when both forms were there, and with another file half done: each line is read once, before the next keeper and after."""
    program = Program(log_path)
    program.write(LINES_PER_FILE * 2 + 1)
    if program.compresses:
        Path(f"{log_path}.1").write_bytes(gzip.decompress(Path(f"{log_path}.1.gz").read_bytes()))
        Path(f"{log_path}.gz.00000000000000ff.new").write_bytes(b"half")
    assert read_all(program) == list(range(1, program.written + 1))
    program.log.close()
    again = Program(log_path)
    assert read_all(again) == list(range(1, program.written + 1))
    assert len(list(log_path.parent.iterdir())) == 3


def test_a_compressed_file_that_is_damaged_ends_where_the_damage_begins(plain_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "compresses", True)
    program = Program(plain_path)
    program.write(LINES_PER_FILE + 1)
    compressed = Path(f"{plain_path}.1.gz")
    compressed.write_bytes(compressed.read_bytes()[:-12])
    assert read_all(program)[-1] == program.written
    compressed.write_bytes(b"nothing of the kind")
    assert read_all(program) == [program.written]
