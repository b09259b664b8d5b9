"""A check over HTTP: a line for everything that is found, and a last one that says that it came to its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.stored_images import StoredImages
from teul.aio import run_blocking
from teul.oci.digest import Digest
from teul.services.images.check import ImageCheck, Report
from teul.services.images.damage import Progress
from teul.services.images.repair import Repair
from unit.api.served_api import Api, until


@pytest.fixture
async def stored(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StoredImages]:
    """Images whose layers nobody can unpack: there is no archive, and no worker in this tier."""

    async def unpack_again(*_: object) -> None:
        return None

    monkeypatch.setattr(Repair, "unpack_again", unpack_again)
    stored = await StoredImages.open(tmp_path / "root")
    api.services.image_check = ImageCheck(stored.store)
    yield stored
    await stored.close()


async def lines(api: Api, query: str = "") -> list[dict[str, Any]]:
    async with api.session.post(f"http://docker/v1.51/teul/system/check{query}") as response:
        assert response.status == 200
        return [json.loads(line) for line in (await response.text()).splitlines()]


async def test_nothing_is_wrong(api: Api, stored: StoredImages) -> None:
    await stored.add("a:1")
    found = await lines(api)
    assert [line["progress"] for line in found[:-1]] == [{"current": number, "total": 4} for number in range(1, 5)]
    assert found[-1] == {"outcome": {"blobs": 3, "layers": 1, "damaged": 0, "repaired": 0}}


async def test_a_finding_names_what_it_is_and_whose(api: Api, stored: StoredImages) -> None:
    await stored.add("a:1", "b:1", layers=[b"layer"])
    path = Path(stored.store.content.path(Digest.of(b"layer")))
    await run_blocking(path.write_bytes, b"other")
    finding = {"kind": "blob", "subject": str(Digest.of(b"layer")), "path": str(path), "images": ["a:1", "b:1"]}
    finding |= {"damage": "its bytes have another digest", "repaired": ""}
    for query in ("", "?repair=1"):
        assert [line["finding"] for line in await lines(api, query) if "finding" in line] == [finding]


async def test_a_file_that_nobody_recorded_is_removed(api: Api, stored: StoredImages) -> None:
    path = stored.root / "blobs/sha256/stray"
    await run_blocking(path.write_bytes, b"x")
    [finding, outcome] = await lines(api, "?repair=1")
    assert (finding["finding"]["damage"], finding["finding"]["repaired"]) == ("there is no record of it", "removed")
    assert outcome["outcome"] == {"blobs": 0, "layers": 0, "damaged": 1, "repaired": 1}
    assert not await run_blocking(path.exists)


async def test_a_check_ends_when_its_client_leaves(api: Api) -> None:
    ended = asyncio.Event()

    class Endless(ImageCheck):
        def __init__(self) -> None:
            return

        async def _run(self, *, repair: bool) -> AsyncGenerator[Report, None]:
            try:
                yield Progress(1, 2)
                await asyncio.Event().wait()
            finally:
                ended.set()

        def run(self, *, repair: bool = False) -> AsyncGenerator[Report, None]:
            return self._run(repair=repair)

    api.services.image_check = Endless()
    async with api.session.post("http://docker/teul/system/check") as response:
        await response.content.readline()
        response.close()
    await until(ended.is_set)


async def test_a_second_check_is_refused(api: Api, stored: StoredImages) -> None:
    await stored.add("a:1")
    first = api.services.image_check.run()
    await anext(first)
    assert await api.request("POST", "/teul/system/check") == (409, {"message": "a check is already running"})
    async for _ in first:
        pass
