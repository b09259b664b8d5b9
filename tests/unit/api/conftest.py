"""The application over fake services, on a unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from aiohttp import web

from teul.api.app import create_app
from teul.api.http.connection import Runner
from teul.api.http.context import Services
from unit.api.fake_services import FakeServices
from unit.api.served_api import Api


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
async def api(services: FakeServices, tmp_path: Path) -> AsyncIterator[Api]:
    runner = Runner(create_app(cast("Services", services)), shutdown_timeout_seconds=0.5)
    await runner.setup()
    path = str(tmp_path / "api.sock")
    await web.UnixSite(runner, path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        yield Api(services, path, session)
    await runner.cleanup()
