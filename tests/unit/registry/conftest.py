"""A registry on loopback, and a client that waits for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.registry import FakeRegistry
from teul.registry.backoff import Backoff
from teul.registry.client.registry_client import RegistryClient
from teul.registry.transport import Options


class Pauses:
    """The waits that a client wanted, none of which happened."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def options(pauses: Pauses) -> Options:
    return Options(certificate_directories=(), backoff=Backoff(sleep=pauses.sleep, jitter=lambda: 1.0))


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as running:
        yield running


@pytest.fixture
async def client(options: Options) -> AsyncIterator[RegistryClient]:
    async with RegistryClient(options) as running:
        yield running
