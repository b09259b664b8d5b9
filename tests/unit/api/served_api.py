"""A served application and ways to talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from unit.api.fake_services import FakeServices


@dataclass
class Api:
    """A served application and ways to talk to it."""

    services: FakeServices
    socket_path: str
    session: aiohttp.ClientSession

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status, and the document (text if it is no JSON, None if empty)."""
        async with self.session.request(method, f"http://docker{path}", **options) as response:
            body = await response.text()
            if not body:
                return response.status, None
            return response.status, await response.json() if response.content_type == "application/json" else body

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.socket_path)


async def until(condition: Callable[[], object], *, seconds: float = 5) -> None:
    """Return as soon as `condition` holds, looking once per turn of the loop; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)
