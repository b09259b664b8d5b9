"""Push, login and distribution over HTTP: what is read from a request, and how everything is told."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.image_indexes import IndexMaker, absent
from support.registry import IDENTITY, PASSWORD, USERNAME, FakeRegistry
from support.stored_images import StoredImages
from teul.api.images.push import push_line
from teul.errors import NotFound
from teul.oci.descriptor import DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from teul.oci.documents import encode_index, encode_manifest
from teul.oci.platform import Platform
from teul.oci.reference import Reference
from teul.registry.backoff import Backoff
from teul.registry.client.registry_client import RegistryClient
from teul.registry.credentials import ANONYMOUS, Credentials
from teul.registry.transport import Options
from teul.services.images.origins import BlobOrigins
from teul.services.images.push import ImagePusher, LayerProgress, Message, Missing, Pushed, PushedInstead, Tell
from teul.services.images.registries import RemoteRegistries
from unit.api.fake_services import FakeServices
from unit.api.served_api import Api

NOBODY = {"X-Registry-Auth": "e30="}


def auth(**members: str) -> dict[str, str]:
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(members).encode()).decode()}


class FakePusher(ImagePusher):
    """Remembers what it was asked for, tells one thing, and does what the test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Credentials, Platform | None]] = []
        self.failure: Exception | None = None
        self.hangs = False
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def push(self, reference: Reference, credentials: Credentials, tell: Tell, *, platform: Platform | None = None) -> None:
        self.asked.append((reference.familiar, credentials, platform))
        tell(Message("The push refers to repository [x]"))
        self.begun.set()
        if self.failure is not None:
            raise self.failure
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()


@pytest.fixture
def pusher(services: FakeServices) -> FakePusher:
    services.image_pusher = pusher = FakePusher()
    return pusher


@pytest.fixture
async def registry(services: FakeServices, tmp_path: Path) -> AsyncIterator[FakeRegistry]:
    stored = await StoredImages.open(tmp_path / "root")
    options = Options(certificate_directories=(), backoff=Backoff(first_wait_seconds=0.01))
    async with FakeRegistry() as registry, RegistryClient(options) as client:
        services.image_pusher = ImagePusher(stored.store, client, stored.log, BlobOrigins())
        services.registries = RemoteRegistries(client)
        services.images = stored.images
        maker = IndexMaker(stored)
        maker.add("amd64", b"one")
        maker.add_absent("arm64")
        await maker.store(f"{registry.host}/multi:1")
        yield registry
    await stored.close()


async def lines(api: Api, path: str, headers: dict[str, str]) -> list[Any]:
    async with api.session.request("POST", f"http://docker{path}", headers=headers) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        return [json.loads(line) for line in (await response.read()).split(b"\r\n") if line]


@pytest.mark.parametrize(
    ("path", "reference", "platform"),
    [
        ("/images/x/y/push?tag=1", "x/y:1", None),
        ("/images/x/y/push", "x/y", None),
        ("/images/x/y:2/push", "x/y:2", None),
        ("/v1.46/images/x/push?platform=%7B%22os%22:%22linux%22,%22architecture%22:%22arm64%22%7D", "x", "linux/arm64"),
        ("/v1.45/images/x/push?platform=nonsense", "x", None),
    ],
)
async def test_what_is_to_be_pushed(api: Api, pusher: FakePusher, path: str, reference: str, platform: str | None) -> None:
    assert await lines(api, path, NOBODY) == [{"status": "The push refers to repository [x]"}]
    found = [(name, str(wanted) if wanted is not None else None) for name, _, wanted in pusher.asked]
    assert found == [(reference, platform)]


async def test_credentials_are_in_the_header_or_the_body_and_an_unreadable_header_is_none(api: Api, pusher: FakePusher) -> None:
    expected = Credentials(USERNAME, PASSWORD)
    await lines(api, "/images/x/push", auth(username=USERNAME, password=PASSWORD))
    await lines(api, "/images/x/push", {"X-Registry-Auth": "rubbish"})
    body = json.dumps({"username": USERNAME, "password": PASSWORD})
    async with api.session.post("http://docker/images/x/push", data=body) as response:
        assert response.status == 200
    assert [credentials for _, credentials, _ in pusher.asked] == [expected, ANONYMOUS, expected]


@pytest.mark.parametrize(
    ("path", "headers", "message"),
    [
        ("/images/x/push", {}, "bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header: EOF"),
        ("/images/x/push?tag=a%20b", NOBODY, "invalid tag format"),
        ("/images/UPPER/push", NOBODY, "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("/images/x/push?platform=%7B%22os%22:%22linux%22%7D", NOBODY, "both OS and Architecture must be provided"),
    ],
)
async def test_what_is_refused_before_anything_is_told(
    api: Api, pusher: FakePusher, path: str, headers: dict[str, str], message: str
) -> None:
    async with api.session.post(f"http://docker{path}", headers=headers) as response:
        assert (response.status, await response.json()) == (400, {"message": message})
    assert not pusher.asked


async def test_an_error_is_told_in_band(api: Api, pusher: FakePusher) -> None:
    pusher.failure = NotFound("tag does not exist: x:1")
    assert await lines(api, "/images/x/push?tag=1", NOBODY) == [
        {"status": "The push refers to repository [x]"},
        {"errorDetail": {"message": "tag does not exist: x:1"}, "error": "tag does not exist: x:1"},
    ]


async def test_a_client_that_goes_away_ends_the_push(api: Api, pusher: FakePusher) -> None:
    pusher.hangs = True
    response = await api.session.post("http://docker/images/x/push", headers=NOBODY)
    await pusher.begun.wait()
    response.close()
    await pusher.cancelled.wait()


def test_every_event_has_its_line() -> None:
    one, two = absent("amd64"), absent("arm64")
    shown = [
        {"mediaType": OCI_MANIFEST, "digest": str(each.digest), "size": 7, "platform": {"architecture": name, "os": "linux"}}
        for each, name in ((one, "amd64"), (two, "arm64"))
    ]
    assert push_line(Message("text")) == {"status": "text"}
    assert push_line(LayerProgress("abc", "Pushed")) == {"status": "Pushed", "progressDetail": {}, "id": "abc"}
    assert push_line(LayerProgress("abc", "Pushing", 1, 2))["progressDetail"] == {"current": 1, "total": 2}
    assert push_line(Pushed("1", one)) == {"progressDetail": {}, "aux": {"Tag": "1", "Digest": str(one.digest), "Size": 7}}
    assert push_line(PushedInstead(one, two)) == {
        "progressDetail": {},
        "aux": {"manifestPushedInsteadOfIndex": True, "originalIndex": shown[0], "selectedManifest": shown[1]},
    }
    assert push_line(Missing(one)) == {"progressDetail": {}, "aux": {"contentMissing": True, "desc": shown[0]}}


async def test_a_whole_push(api: Api, registry: FakeRegistry) -> None:
    found = await lines(api, f"/images/{registry.host}/multi/push?tag=1", NOBODY)
    (digest,) = registry.tags["multi"].values()
    assert found[0] == {"status": f"The push refers to repository [{registry.host}/multi]"}
    assert found[-3]["aux"]["selectedManifest"]["digest"] == digest
    assert found[-1]["aux"]["Digest"] == digest


async def test_a_login(api: Api, registry: FakeRegistry) -> None:
    registry.behaviour.auth, registry.behaviour.gives_identity = "token", True
    good = {"username": USERNAME, "password": PASSWORD, "serveraddress": registry.host}
    assert await api.request("POST", "/auth", json=good) == (200, {"Status": "Login Succeeded", "IdentityToken": IDENTITY})
    status, document = await api.request("POST", "/auth", json={**good, "password": "wrong"})
    assert status == 401
    assert "incorrect username or password" in document["message"]
    assert await api.request("POST", "/auth") == (400, {"message": "invalid X-Registry-Auth header: EOF"})
    async with api.session.post("http://docker/auth", data=io.BytesIO(b" " * (1 << 20) + b"{}")) as response:
        assert response.status == 400


async def test_what_a_name_stands_for_in_a_registry(api: Api, registry: FakeRegistry) -> None:
    config = registry.add_blob("a", b'{"architecture":"arm","os":"linux","variant":"v7","config":{}}', OCI_CONFIG)
    manifest = registry.add_manifest("a", encode_manifest(config, []), OCI_MANIFEST, tag="1")
    index = registry.add_manifest("a", encode_index([absent("amd64"), manifest]), OCI_INDEX, tag="2")
    stated = {"mediaType": OCI_MANIFEST, "digest": str(manifest.digest), "size": manifest.size_bytes}
    of_one = {"Descriptor": stated, "Platforms": [{"architecture": "arm", "os": "linux", "variant": "v7"}]}
    assert await api.request("GET", f"/distribution/{registry.host}/a:1/json") == (200, of_one)
    assert await api.request("GET", f"/distribution/{registry.host}/a@{manifest.digest}/json") == (200, of_one)
    assert await api.request("GET", f"/distribution/{registry.host}/a:2/json") == (
        200,
        {
            "Descriptor": {"mediaType": OCI_INDEX, "digest": str(index.digest), "size": index.size_bytes},
            "Platforms": [{"architecture": "amd64", "os": "linux"}, {"architecture": "", "os": ""}],
        },
    )
    registry.blobs["a"].clear()
    status, document = await api.request("GET", f"/distribution/{registry.host}/a:1/json")
    assert (status, document["Platforms"]) == (200, None)


async def test_a_document_that_is_none_is_the_registrys_fault(api: Api, registry: FakeRegistry) -> None:
    registry.add_manifest("a", b"no document", DOCKER_MANIFEST, tag="1")
    status, document = await api.request("GET", f"/distribution/{registry.host}/a:1/json")
    assert status == 500
    assert document["message"].startswith("invalid image manifest")


@pytest.mark.parametrize(
    ("code", "status"),
    [("UNAUTHORIZED", 401), ("DENIED", 403), ("NAME_UNKNOWN", 404), ("TOOMANYREQUESTS", 429), ("UNSUPPORTED", 405), ("NONSENSE", 500)],
)
async def test_a_registrys_refusal_has_the_status_of_its_code(api: Api, registry: FakeRegistry, code: str, status: int) -> None:
    body = json.dumps({"errors": [{"code": code, "message": "because", "detail": "x"}]}).encode()
    registry.behaviour.error = (400, "application/json", body)
    known = code.replace("_", " ").lower() if code != "NONSENSE" else "unknown"
    assert await api.request("GET", f"/distribution/{registry.host}/a:1/json") == (status, {"message": f"{known}: because"})


async def test_names_that_name_nothing(api: Api, registry: FakeRegistry) -> None:
    missing = (404, {"message": "manifest unknown: manifest unknown"})
    assert await api.request("GET", f"/distribution/{registry.host}/a:1/json") == missing
    assert await api.request("GET", f"/distribution/{'a' * 64}/json") == (500, {"message": "no manifest found for full image ID"})
    assert (await api.request("GET", "/distribution/UPPER/json"))[0] == 400


async def test_distribution_shows_credentials(api: Api, registry: FakeRegistry) -> None:
    registry.behaviour.auth = "basic"
    registry.add_manifest("a", encode_index([]), OCI_INDEX, tag="1")
    path = f"/distribution/{registry.host}/a:1/json"
    assert (await api.request("GET", path, headers=auth(username=USERNAME, password=PASSWORD)))[0] == 200
    assert (await api.request("GET", path))[0] == 500
