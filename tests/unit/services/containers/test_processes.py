"""Which rows of ps are a container's."""

from __future__ import annotations

import asyncio

import pytest

from teul.services.containers.processes import list_processes

_OUTPUT = b"  PID CMD\n   10 sleep 1\n   11 of another container\n   12 sh\n"


class FakePs:
    returncode = 0

    async def communicate(self) -> tuple[bytes, bytes]:
        return _OUTPUT, b""


async def test_a_pid_that_was_given_to_another_process_meanwhile_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """security: process 11 was the container's when ps was started, and ps saw the process that got its number."""

    async def start(*arguments: str, **options: int) -> FakePs:
        return FakePs()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    looks = [[10, 11, 12], [10, 12, 13]]
    titles, rows = await list_processes("", lambda: looks.pop(0))
    assert titles == ["PID", "CMD"]
    assert rows == [["10", "sleep 1"], ["12", "sh"]]
