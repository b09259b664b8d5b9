"""Renewals over HTTP: what is wrong with a request has a status of its own, and what goes wrong later is told in the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from support.container_records import SOME_IMAGE
from support.image_models import image_of
from teul.errors import Conflict, Refusal, TeulError
from teul.model.container import Container
from teul.model.renewal import Generation, RenewRequest
from teul.oci.image_config import ImageDocument
from teul.services.containers.renewal import Outdated, Renewals, Renewed, Tell
from unit.api.fake_services import make_container
from unit.api.served_api import Api, until

BEGAN_NS = 1_700_000_000_000_000_000


class FakeRenewals(Renewals):
    """Tells its steps, and fails as it is told to, before or after them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: TeulError | None = None
        self.failure: TeulError | None = None
        self.lasts = asyncio.Event()
        self.lasts.set()
        self.over = False

    async def renew(self, reference: str, request: RenewRequest, tell: Tell) -> Renewed:
        self.calls.append(("renew", reference, request))
        return await self._work(tell)

    async def roll_back(self, reference: str, number: int | None, request: RenewRequest, tell: Tell) -> Renewed:
        self.calls.append(("roll_back", reference, number, request))
        return await self._work(tell)

    def history(self, reference: str) -> Sequence[Generation]:
        common: dict[str, Any] = {"image_id": str(SOME_IMAGE), "image_reference": "app:1", "began_at_ns": BEGAN_NS}
        return [Generation(number=number, container_id=f"{number:064x}", **common) for number in (1, 2)]

    def outdated(self, containers: Sequence[Container]) -> list[Outdated]:
        return [Outdated(container, image_of(ImageDocument())) for container in containers]

    async def _work(self, tell: Tell) -> Renewed:
        if self.refusal is not None:
            raise self.refusal
        tell("one")
        tell("two")
        await self.lasts.wait()
        if self.failure is not None:
            raise self.failure
        self.over = True
        return Renewed("new", renewed=True)


@pytest.fixture
def renewals(api: Api) -> FakeRenewals:
    api.services.renewals = FakeRenewals()
    return api.services.renewals


async def lines(api: Api, path: str, body: Any = None) -> list[dict[str, Any]]:
    async with api.session.post(f"http://docker{path}", json=body) as response:
        assert response.status == 200
        return [json.loads(line) for line in (await response.text()).splitlines()]


async def test_steps_are_told_and_at_last_who_it_is(api: Api, renewals: FakeRenewals) -> None:
    told = await lines(api, "/teul/containers/web/renew", {"Image": "app:2", "Env": ["A=1"], "Keep": True, "Timeout": 7})
    assert told == [{"status": "one"}, {"status": "two"}, {"progressDetail": {}, "aux": {"Id": "new", "Renewed": True}}]
    [(_, name, request)] = renewals.calls
    assert (name, request.image, request.env, request.keep, request.timeout, request.force) == ("web", "app:2", ["A=1"], True, 7, False)


async def test_a_generation_is_named_by_its_number(api: Api, renewals: FakeRenewals) -> None:
    async with api.session.post("http://docker/teul/containers/web/rollback?generation=3", json={}) as response:
        assert response.status == 200
        await response.read()
    async with api.session.post("http://docker/teul/containers/web/rollback", json={}) as response:
        await response.read()
    assert [call[:3] for call in renewals.calls] == [("roll_back", "web", 3), ("roll_back", "web", None)]
    assert renewals.calls[0][3] == RenewRequest()


async def test_what_is_wrong_at_once_has_its_own_status(api: Api, renewals: FakeRenewals) -> None:
    renewals.refusal = Conflict("container web is being renewed already")
    assert await api.request("POST", "/teul/containers/web/renew", json={}) == (409, {"message": "container web is being renewed already"})
    status, document = await api.request("POST", "/teul/containers/web/renew", json={"Env": "no list"})
    assert (status, len(renewals.calls)) == (400, 1)
    assert document["message"]


async def test_what_goes_wrong_later_is_told_in_the_stream(api: Api, renewals: FakeRenewals) -> None:
    renewals.failure = Refusal("no good")
    told = await lines(api, "/teul/containers/web/renew", {})
    assert told[-1] == {"errorDetail": {"message": "no good"}, "error": "no good"}


async def test_generations_come_newest_first(api: Api, renewals: FakeRenewals) -> None:
    status, found = await api.request("GET", "/teul/containers/web/generations")
    assert (status, [each["Generation"] for each in found]) == (200, [2, 1])
    assert found[0] == {
        "Generation": 2,
        "Id": f"{2:064x}",
        "ImageID": str(SOME_IMAGE),
        "Image": "app:1",
        "Began": 1_700_000_000,
        "Changes": [],
        "Result": "",
        "Kept": False,
    }
    assert renewals.calls == []


async def test_the_list_of_those_out_of_date_is_filtered_as_the_list_is(api: Api, renewals: FakeRenewals) -> None:
    for name in ("web", "other"):
        api.services.containers.add(make_container(name))
    status, found = await api.request("GET", "/teul/containers/outdated", params={"all": "1", "filters": '{"name": ["web"]}'})
    assert (status, [each["Name"] for each in found]) == (200, ["web"])
    assert set(found[0]) == {"Id", "Name", "Image", "ImageID", "NewImageID"}
    status, found = await api.request("GET", "/teul/containers/outdated", params={"all": "1", "filters": '{"ancestor": ["nothing"]}'})
    assert (status, found) == (200, [])
    assert renewals.calls == []


async def test_steps_are_sent_as_they_happen(api: Api, renewals: FakeRenewals) -> None:
    renewals.lasts.clear()
    async with api.session.post("http://docker/teul/containers/web/renew", json={}) as response:
        assert json.loads(await response.content.readline()) == {"status": "one"}
        assert not renewals.over
        renewals.lasts.set()
        await response.read()
    await until(lambda: renewals.over)
