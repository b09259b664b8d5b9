"""`docker search` over HTTP, from a registry on loopback."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from support.registry import PASSWORD, USERNAME, FakeRegistry
from teul.registry.client.registry_client import RegistryClient
from teul.registry.transport import Options
from teul.services.images.registries import RemoteRegistries
from unit.api.fake_services import FakeServices
from unit.api.served_api import Api

BUSY = {"star_count": 7, "is_official": True, "name": "busybox", "is_automated": False, "description": "small"}


@pytest.fixture
async def registry(services: FakeServices) -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as registry, RegistryClient(Options(certificate_directories=())) as client:
        registry.repositories = [BUSY, {"name": "busy/bee"}]
        services.registries = RemoteRegistries(client)
        yield registry


def search(host: str, **query: str) -> str:
    return "/images/search?" + urlencode({"term": f"{host}/busy", **query})


async def test_what_is_found(api: Api, registry: FakeRegistry) -> None:
    status, found = await api.request("GET", search(registry.host))
    bee = {"star_count": 0, "is_official": False, "name": "busy/bee", "is_automated": False, "description": ""}
    assert (status, found) == (200, [BUSY, bee])
    assert list(found[0]) == ["star_count", "is_official", "name", "is_automated", "description"]
    assert registry.seen[-1].query == "q=busy&n=25"


async def test_limit_and_filters(api: Api, registry: FakeRegistry) -> None:
    assert await api.request("GET", search(registry.host, limit="1")) == (200, [BUSY])
    assert await api.request("GET", search(registry.host, filters=json.dumps({"stars": ["1"]}))) == (200, [BUSY])
    assert await api.request("GET", search(registry.host, filters=json.dumps({"stars": {"8": True}}))) == (200, [])


async def test_who_wants_automated_ones_asks_nobody(api: Api, registry: FakeRegistry) -> None:
    assert await api.request("GET", search(registry.host, filters='{"is-automated":["1"]}')) == (200, [])
    assert registry.seen == []


async def test_credentials_are_passed_on_and_unreadable_ones_are_none(api: Api, registry: FakeRegistry) -> None:
    registry.behaviour.auth = "basic"
    document = json.dumps({"username": USERNAME, "password": PASSWORD}).encode()
    good = {"X-Registry-Auth": base64.urlsafe_b64encode(document).decode()}
    assert (await api.request("GET", search(registry.host, limit="1"), headers=good))[0] == 200
    refused = (500, {"message": "Unexpected status code 401"})
    assert await api.request("GET", search(registry.host), headers={"X-Registry-Auth": "%%%"}) == refused


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"limit": "-1"}, "invalid limit specified"),
        ({"limit": "x"}, 'invalid limit specified: strconv.Atoi: parsing "x": invalid syntax'),
        ({"limit": "101"}, "limit 101 is outside the range of [1, 100]"),
        ({"filters": "x"}, "invalid filter"),
        ({"filters": '{"name":["x"]}'}, "invalid filter 'name'"),
        ({"term": "user:secret@127.0.0.1/x"}, 'parse "https://user:secret@127.0.0.1": invalid host'),
    ],
)
async def test_what_cannot_be_asked(api: Api, registry: FakeRegistry, query: dict[str, str], message: str) -> None:
    assert await api.request("GET", search(registry.host, **query)) == (400, {"message": message})
    assert registry.seen == []
