"""The lines by which Docker's clients draw progress, and a way to send them that never holds up the work that they are about.

Source: moby pkg/streamformatter, pkg/jsonmessage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from teul.api.http.streaming import JsonStream
from teul.model.size import human_size

Document = dict[str, Any]
_BAR_CHARACTERS = 50


def progress_line(identifier: str, action: str, current: int | None = None, total: int | None = None) -> Document:
    """A line about the object `identifier`, or without a name if that is empty; with the numbers, if there are any, and a bar of them for
    clients that draw none themselves. `total` is -1 if it is not known.
    """
    document: Document = {"status": action, "progressDetail": {}}
    if current and total is not None:
        document["progressDetail"] = {"current": current, "total": total}
        document["progress"] = _bar(current, total)
    return document | ({"id": identifier} if identifier else {})


def aux_line(content: Any) -> Document:
    """A line for programs, which no client shows."""
    return {"progressDetail": {}, "aux": content}


def _bar(current: int, total: int) -> str:
    if total <= 0:
        return f"{human_size(current):>8}"
    done = min(_BAR_CHARACTERS, int(current / total * 100) // 2)
    return f"[{'=' * done}>{' ' * (_BAR_CHARACTERS - done)}] {human_size(current):>8}/{human_size(total)}"


async def relay(stream: JsonStream, work: Callable[[Callable[[Document], None]], Awaitable[None]]) -> None:
    """Do `work` and send to `stream` what it tells; all of that has been sent when this returns or raises what `work` raised.

    `work` is given a function that takes a line and never waits. Numbers that a slow client has not been sent give way to newer ones of
    the same object, so what waits for it does not grow. Raises Cancelled when the client is gone; then `work` has been cancelled.
    """
    lines: dict[object, Document] = {}
    news = asyncio.Event()
    over = False
    failure: Exception | None = None

    def tell(line: Document) -> None:
        lines[line.get("id") if line.get("progressDetail") else object()] = line
        news.set()

    async def send() -> None:
        while lines or not over:
            while lines:
                await stream.send(lines.pop(next(iter(lines))))
            if not over:
                await news.wait()
                news.clear()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            try:
                await work(tell)
            except Exception as error:  # noqa: BLE001 - raised below, after what was told before it
                failure = error
            over = True
            news.set()
    except ExceptionGroup as failed:
        failure = failed.exceptions[0]
    if failure is not None:
        raise failure
