"""A root with the services of images on it, for layers of either form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.services.images.host import Host
from teul.snapshots import erofs


@pytest.fixture(params=["directory", "erofs"])
def form(request: pytest.FixtureRequest) -> str:
    """What new layers become; a module that is about one form has a fixture of its own in place of this one."""
    return str(request.param)


@pytest.fixture
async def host(tmp_path: Path, form: str) -> AsyncIterator[Host]:
    root = tmp_path / "root"
    root.mkdir()
    if form == "erofs" and (reason := erofs.refusal(str(root))):
        pytest.skip(f"this kernel mounts no index here: {reason}")
    host = Host(root, indexes=form == "erofs")
    await host.start()
    yield host
    host.stop()
