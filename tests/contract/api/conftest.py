"""An engine behind its API, fake or real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.api.served import Served, serve_fake, serve_real
from contract.witness import Witness
from support.needs import needs


@pytest.fixture(params=["fake", pytest.param("real", marks=needs("root", "busybox"))])
async def served(request: pytest.FixtureRequest, witness: Witness, tmp_path: Path) -> AsyncIterator[Served]:
    if request.param == "fake":
        async with serve_fake(tmp_path, witness) as fake:
            yield fake
        return
    async with serve_real(request.getfixturevalue("real_engine")) as real:
        yield real
