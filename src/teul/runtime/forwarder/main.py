"""The process that sends one container's lines to a log server, so that nobody else waits for that server.

The keeper starts it and gives it the container's output by a pipe, its standard input (`wire/log_frames`). When the pipe ends, it sends
what it has and leaves: so it outlives a keeper that is killed for no longer than that takes.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import NoReturn

from teul.linux import process
from teul.runtime.forwarder.sender import Sender
from teul.wire import log_frames
from teul.wire.loglines import LineSplitter


def main() -> NoReturn:
    """Entry point. Ends the process."""
    process.close_all_but(set())
    process.set_name("teul-forwarder")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = _read_frame()
    if first is not None:
        plan = json.loads(first[1])
        process.set_title(f"teul: log forwarder {plan['id'][:12]}", process.argument_area())
        _forward(Sender(plan, lambda text: _tell(f"container {plan['id'][:12]}: {text}")))
    os._exit(0)


def _forward(sender: Sender) -> None:
    lines = (LineSplitter(), LineSplitter())
    now_ns = 0
    while (received := _read_frame()) is not None:
        stream, data, now_ns = received
        whole, pieces = lines[stream - 1].feed(data)
        for line in whole.split(b"\n")[:-1]:
            sender.send(stream, now_ns, line, partial=False)
        for piece in pieces:
            sender.send(stream, now_ns, piece.removesuffix(b"\n"), partial=not piece.endswith(b"\n"))
    for number, splitter in enumerate(lines):
        if rest := splitter.finish():
            sender.send(number + 1, now_ns, rest, partial=False)
    sender.close()


def _read_frame() -> tuple[int, bytes, int] | None:
    """Stream, bytes and time; None at the end, also in the middle of a frame."""
    head = _read(log_frames.HEAD_BYTES)
    if len(head) < log_frames.HEAD_BYTES:
        return None
    stream, length, time_ns = log_frames.parse_head(head)
    data = _read(length)
    return (stream, data, time_ns) if len(data) == length else None


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(0, size - len(data))):
        data += more
    return data


def _tell(text: str) -> None:
    with suppress(OSError):  # the engine that would have heard it has gone
        os.write(2, f"{text}\n".encode("utf-8", "surrogateescape"))
