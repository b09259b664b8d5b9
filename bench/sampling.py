"""What is watched while something else is measured: the memory of an engine's processes, how soon it answers, the page cache."""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support import processes
from support.unix_http import Client

_MEMORY_EVERY_SECONDS = 0.05
_PING_EVERY_SECONDS = 0.005


@contextmanager
def peak_memory(pid: int) -> Iterator[Callable[[], int]]:
    """Watch the process and all below it; yields what asks for the most that they had together so far (PSS), in bytes."""
    peak = 0

    def look() -> None:
        nonlocal peak
        peak = max(peak, sum(processes.proportional_set_bytes(found) for found in _tree(pid)))

    with _repeated(look, every_seconds=_MEMORY_EVERY_SECONDS):
        yield lambda: peak


@contextmanager
def ping_seconds(client: Client) -> Iterator[Callable[[], float]]:
    """Ask the engine for /_ping again and again; yields what asks for the 99th percentile of the answers' times so far."""
    times: list[float] = []

    def ask() -> None:
        started = time.perf_counter()
        client.expect(200, "GET", "/_ping")
        times.append(time.perf_counter() - started)

    with _repeated(ask, every_seconds=_PING_EVERY_SECONDS):
        yield lambda: statistics.quantiles(times, n=100, method="inclusive")[98]


def drop_caches() -> None:
    """As after a restart: nothing of any file is in memory, as far as nobody uses it."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def cached_bytes() -> int:
    """The page cache of the whole machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Cached:"))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for path in Path("/proc", str(pid), "task").glob("*/children"):
        # A thread may be gone by now.
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                yield from _tree(int(child))


@contextmanager
def _repeated(action: Callable[[], None], *, every_seconds: float) -> Iterator[None]:
    """Do it in a thread while the `with` runs; what it raises is raised at the end."""
    over = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            action()
            while not over.wait(every_seconds):
                action()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            failures.append(error)

    thread = threading.Thread(target=work, name="bench sampler")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]
