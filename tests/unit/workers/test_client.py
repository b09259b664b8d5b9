"""A worker's report as the engine reads it: lines, a result, or the error that the last line is."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from teul.errors import InvalidParameter, System, TeulError
from teul.workers import client, layers, rootfs
from teul.workers.client import InvalidArchive, Program, Worker
from teul.workers.rootfs import ContainerGone, NoSuchPath

LAYERS, ROOTFS = layers._PROGRAM, rootfs._PROGRAM


@pytest.fixture
def opened() -> Iterator[list[Worker]]:
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.close()


def worker_that_says(opened: list[Worker], program: Program, *lines: dict[str, object], rest: bytes = b"") -> Worker:
    report = asyncio.StreamReader()
    report.feed_data(b"".join(json.dumps(line).encode() + b"\n" for line in lines) + rest)
    report.feed_eof()
    process: Any = SimpleNamespace(pid=os.getpid(), stdin=None, stdout=report)
    opened.append(Worker(process, program))
    return opened[-1]


async def test_lines_come_before_the_result(opened: list[Worker]) -> None:
    worker = worker_that_says(opened, ROOTFS, {"entered": True}, {"done": {"changes": []}})
    assert await worker.line() == {"entered": True}
    assert await worker.result() == {"changes": []}


async def test_what_the_kernel_lacks_is_logged_once(opened: list[Worker], caplog: pytest.LogCaptureFixture) -> None:
    client._log_missing.cache_clear()
    lacking: dict[str, object] = {"missing_namespaces": ["ipc", "uts"]}
    for _ in range(2):
        worker = worker_that_says(opened, ROOTFS, lacking, {"entered": True})
        assert await worker.line() == {"entered": True}, "whoever reads the report need not know"
    assert [record.getMessage() for record in caplog.records] == [
        "this kernel has no ipc, uts namespaces; workers that open archives are confined without"
    ]


@pytest.mark.parametrize(
    ("program", "kind", "error"),
    [
        (LAYERS, "invalid", InvalidArchive),
        (LAYERS, "limit", InvalidArchive),
        (LAYERS, "system", System),
        (ROOTFS, "invalid", InvalidParameter),
        (ROOTFS, "not-found", NoSuchPath),
        (ROOTFS, "gone", ContainerGone),
        (ROOTFS, "system", System),
    ],
)
async def test_a_failure_is_raised_as_the_error_of_its_kind(
    opened: list[Worker], program: Program, kind: str, error: type[TeulError]
) -> None:
    worker = worker_that_says(opened, program, {"error": "a name:\x1b[2J\udcff", "kind": kind})
    with pytest.raises(TeulError) as raised:
        await worker.line()
    assert type(raised.value) is error
    assert raised.value.message == "a name:\\x1b[2J\\udcff", "nothing that does something to a terminal"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (LAYERS, "internal error while unpacking the archive: the engine's log has the details"),
        (ROOTFS, "internal error while working on the container's files: the engine's log has the details"),
    ],
)
async def test_a_bug_is_for_the_log_only(opened: list[Worker], caplog: pytest.LogCaptureFixture, program: Program, message: str) -> None:
    worker = worker_that_says(opened, program, {"error": "Traceback …", "kind": "bug"})
    with caplog.at_level(logging.ERROR), pytest.raises(System) as raised:
        await worker.result()
    assert raised.value.message == message
    assert "Traceback …" in caplog.text


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (LAYERS, f"the worker {os.getpid()} that unpacks the archive died"),
        (ROOTFS, "the worker that reads the container's files died"),
    ],
    ids=["layers", "rootfs"],
)
@pytest.mark.parametrize("rest", [b"", b'{"done": {'], ids=["silent", "in the middle of a word"])
async def test_a_worker_that_ends_without_a_last_line_died(opened: list[Worker], program: Program, message: str, rest: bytes) -> None:
    with pytest.raises(System) as raised:
        await worker_that_says(opened, program, rest=rest).result()
    assert (raised.value.message, raised.value.hint) == (message, "was it killed, by the kernel for want of memory?")
