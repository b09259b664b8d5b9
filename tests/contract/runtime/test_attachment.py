"""The streams of a process, as services hand them to the API: the fake, and one that a monitor serves.

The real process keeps what it hears in a file and does what it is told through a named pipe, both seen from the host.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator

import pytest

from contract.witness import Witness, methods_of
from kernel.runtime.bare_containers import Bench, Running, eventually
from support.needs import needs
from teul.api.containers.streams import Attachment
from unit.api.fake_services import FakeAttachment

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECONDS = 10.0
# PID 1 obeys; what comes on its input goes to a file, and the end of it is noted.
SCRIPT = (
    "mkfifo /orders; : >/heard; exec 3<&0; { cat <&3 >>/heard; : >/ended; } 2>/dev/null & exec 3<&-; : >/ready; exec sh /orders </dev/null"
)
_FIRST = b"\0"


class Subject:
    """A process and an attachment to it."""

    attachment: Attachment

    async def says(self, stream: int, text: str) -> None:
        """The process writes."""
        raise NotImplementedError

    async def ends(self) -> None:
        """The process ends."""
        raise NotImplementedError

    async def deaf(self) -> None:
        """The process reads its input no longer."""
        raise NotImplementedError

    def heard(self) -> bytes:
        """What the process has read so far."""
        raise NotImplementedError

    def hears_no_more(self) -> bool:
        """Whether the process has seen the end of its input."""
        raise NotImplementedError


class Fake(Subject):
    def __init__(self, attachment: FakeAttachment) -> None:
        self.attachment = self._fake = attachment

    async def says(self, stream: int, text: str) -> None:
        self._fake.feed((stream, text.encode()))

    async def ends(self) -> None:
        self._fake.end()

    async def deaf(self) -> None:
        self._fake.refuses_input = True

    def heard(self) -> bytes:
        return bytes(self._fake.stdin)

    def hears_no_more(self) -> bool:
        return self._fake.stdin_closed.is_set()


class Real(Subject):
    def __init__(self, running: Running, attachment: Attachment) -> None:
        self.attachment = attachment
        self._running = running
        self._orders_fd = os.open(running.root / "orders", os.O_RDWR | os.O_CLOEXEC)

    async def says(self, stream: int, text: str) -> None:
        self._order(f"printf %s '{text}' >&{stream}")

    async def ends(self) -> None:
        self._order("exit 0")

    async def deaf(self) -> None:
        self._order("killall cat")
        await eventually(self.hears_no_more, "nobody reads")

    def heard(self) -> bytes:
        return (self._running.root / "heard").read_bytes().removeprefix(_FIRST)

    def hears_no_more(self) -> bool:
        return (self._running.root / "ended").exists()

    async def attached(self) -> None:
        """The monitor takes an attachment up when it gets to it, and gives it what is written from then on."""
        await self.attachment.write(_FIRST)
        await eventually((self._running.root / "heard").read_bytes, "the attachment's first byte")

    def close(self) -> None:
        os.close(self._orders_fd)

    def _order(self, command: str) -> None:
        os.write(self._orders_fd, f"{command}\n".encode())


Start = Callable[..., Awaitable[Subject]]


@pytest.fixture(params=["fake", *(pytest.param(name, marks=needs("root", "busybox")) for name in ("from the start", "later"))])
def start(request: pytest.FixtureRequest, witness: Witness) -> Iterator[Start]:
    """Starts a process; its input lives as long as its first client ("once"), or stays "open"."""
    subjects: list[Real] = []

    async def start_fake(stdin: str = "once") -> Subject:
        return Fake(witness.watch(FakeAttachment(stdin_once=stdin == "once")))

    async def start_real(stdin: str = "once") -> Subject:
        running = await bench.start("sh", "-c", SCRIPT, stdin=stdin, attach=request.param == "from the start")
        await eventually((running.root / "ready").exists, "the process listens")
        running.attachment = running.attachment or await running.attach(stdin=True)
        subject = Real(running, running.attachment)
        subjects.append(subject)
        await subject.attached()
        return subject

    if request.param == "fake":
        yield start_fake
        return
    bench: Bench = request.getfixturevalue("bench")
    yield start_real
    for subject in subjects:
        subject.close()


async def read_until(attachment: Attachment, size: int) -> dict[int, bytes]:
    """Output by stream, at least `size` bytes together."""
    found = {1: b"", 2: b""}
    async with asyncio.timeout(SECONDS):
        async for stream, data in attachment:
            found[stream] += data
            if sum(map(len, found.values())) >= size:
                break
    return found


async def read_all(attachment: Attachment) -> dict[int, bytes]:
    found = {1: b"", 2: b""}
    async with asyncio.timeout(SECONDS):
        async for stream, data in attachment:
            found[stream] += data
    return found


async def test_output_comes_as_it_is_written(start: Start) -> None:
    subject = await start()
    for text in ("first", "second"):
        await subject.says(1, text)
        assert await read_until(subject.attachment, len(text)) == {1: text.encode(), 2: b""}
    await subject.says(2, "error")
    assert await read_until(subject.attachment, 5) == {1: b"", 2: b"error"}


async def test_output_ends_with_the_process_and_none_of_it_is_lost(start: Start) -> None:
    subject = await start()
    await subject.says(1, "all of it, ")
    await subject.says(1, "to the end")
    await subject.says(2, "error")
    await subject.ends()
    assert await read_all(subject.attachment) == {1: b"all of it, to the end", 2: b"error"}


async def test_input_arrives_whole_and_in_order(start: Start) -> None:
    subject = await start()
    data = bytes(range(256)) * 1024
    for at in range(0, len(data), 100_000):
        await subject.attachment.write(data[at : at + 100_000])
    await subject.attachment.write(b"")
    await eventually(lambda: len(subject.heard()) == len(data), "all was heard")
    assert subject.heard() == data
    assert not subject.hears_no_more()


async def test_the_end_of_input_leaves_the_output(start: Start) -> None:
    subject = await start()
    await subject.attachment.write(b"last")
    await subject.attachment.close_stdin()
    await eventually(subject.hears_no_more, "the end of its input")
    assert subject.heard() == b"last"
    await subject.says(1, "still here")
    await subject.ends()
    assert await read_all(subject.attachment) == {1: b"still here", 2: b""}
    await subject.attachment.close_stdin()


async def test_what_nobody_reads_is_dropped(start: Start) -> None:
    subject = await start()
    await subject.deaf()
    async with asyncio.timeout(SECONDS):
        for _ in range(20):
            await subject.attachment.write(b"x" * 100_000)
    await subject.says(1, "unmoved")
    assert await read_until(subject.attachment, 7) == {1: b"unmoved", 2: b""}


async def test_writing_to_what_has_ended_is_no_error(start: Start) -> None:
    subject = await start()
    await subject.ends()
    await read_all(subject.attachment)
    async with asyncio.timeout(SECONDS):
        for _ in range(20):
            await subject.attachment.write(b"x" * 100_000)
    await subject.attachment.close_stdin()


async def test_closing_detaches_and_is_idempotent(start: Start) -> None:
    """Where the input lives no longer than its first client, it ends there."""
    subject = await start()
    assert subject.attachment.terminal is False
    await subject.attachment.close()
    await subject.attachment.close()
    await eventually(subject.hears_no_more, "the end of its input")


async def test_an_input_that_stays_open_outlives_its_client(start: Start) -> None:
    subject = await start(stdin="open")
    await subject.attachment.write(b"heard")
    await subject.attachment.close()
    await eventually(lambda: subject.heard() == b"heard", "what was written before")
    assert not subject.hears_no_more()


async def test_an_input_that_breaks_off_is_not_ended_by_its_client(start: Start) -> None:
    """Also where it would live no longer than that: what has come may be half of what was meant."""
    subject = await start()
    await subject.attachment.write(b"half")
    subject.attachment.cut_input()
    await subject.attachment.close()
    await eventually(lambda: subject.heard() == b"half", "what was written before")
    assert not subject.hears_no_more()


async def test_every_method_was_called(whole_suite: Witness) -> None:
    assert methods_of(Attachment) | {"feed", "end"} == methods_of(FakeAttachment)
    assert whole_suite.uncalled(FakeAttachment) == set()
