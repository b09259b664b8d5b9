"""The application over fake services, on a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fake_services import FakeServices

from teul.api.app import create_app
from teul.api.connection import Runner


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


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
async def api(services: FakeServices, tmp_path: Path) -> AsyncIterator[Api]:
    runner = Runner(create_app(services), shutdown_timeout_seconds=0.5)  # type: ignore[arg-type]
    await runner.setup()
    path = str(tmp_path / "api.sock")
    await web.UnixSite(runner, path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        yield Api(services, path, session)
    await runner.cleanup()
