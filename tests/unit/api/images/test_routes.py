"""Images over HTTP: documents, statuses and texts, on a real store without workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.stored_images import StoredImages
from teul.aio import run_blocking
from teul.errors import Cancelled
from teul.oci.descriptor import OCI_MANIFEST
from teul.oci.digest import Digest
from teul.oci.image_config import Healthcheck, ImageConfig
from teul.oci.platform import Platform
from teul.oci.reference import parse_reference
from teul.services.images.archives import ImageArchives
from teul.services.images.import_ import ImportRequest
from teul.services.images.load import LayerProgress, LoadedImage, Progress
from teul.workers.client import InvalidArchive
from unit.api.fake_services import FakeServices
from unit.api.served_api import Api

HEX = "0" * 64


@pytest.fixture
async def stored(services: FakeServices, tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    services.images = stored.images
    services.image_archives = stored.archives
    services.image_remover = stored.remover
    yield stored
    await stored.close()


async def lines(api: Api, method: str, path: str, **options: Any) -> tuple[int, list[Any]]:
    """Status and the documents of a stream."""
    async with api.session.request(method, f"http://docker{path}", **options) as response:
        body = await response.read()
        assert response.content_type == "application/json"
        return response.status, [json.loads(line) for line in body.split(b"\r\n") if line]


async def descriptor(stored: StoredImages, image_id: Digest) -> dict[str, Any]:
    manifest = await run_blocking(stored.store.content.read, image_id, limit_bytes=1 << 20)
    return {"mediaType": OCI_MANIFEST, "digest": str(image_id), "size": len(manifest)}


async def test_the_list_has_dockers_members(api: Api, stored: StoredImages) -> None:
    image_id = await stored.add("a:1", layers=[b"12345"], labels={"l": "m"})
    stored.use(image_id, "c" * 64, running=True)
    expected: dict[str, Any] = {
        "Containers": 1,
        "Created": 1_704_164_645,
        "Id": str(image_id),
        "Labels": {"l": "m"},
        "ParentId": "",
        "Descriptor": await descriptor(stored, image_id),
        "RepoDigests": [f"a@{image_id}"],
        "RepoTags": ["a:1"],
        "SharedSize": -1,
        "Size": 5,
    }
    assert await api.request("GET", "/v1.51/images/json") == (200, [expected])
    assert await api.request("GET", "/v1.50/images/json?shared-size=1") == (200, [{**expected, "Containers": -1, "SharedSize": 0}])
    del expected["Descriptor"]
    assert await api.request("GET", "/v1.40/images/json?shared-size=1") == (200, [{**expected, "Containers": -1, "VirtualSize": 5}])


async def test_a_nameless_image_was_called_none_before_143(api: Api, stored: StoredImages) -> None:
    await stored.add(created=None)
    for version, tags, digests in (("1.42", ["<none>:<none>"], ["<none>@<none>"]), ("1.43", [], [])):
        _, [summary] = await api.request("GET", f"/v{version}/images/json")
        assert (summary["RepoTags"], summary["RepoDigests"], summary["Created"]) == (tags, digests, 0)


async def test_the_list_is_filtered(api: Api, stored: StoredImages) -> None:
    await stored.add("a:1", layers=[b"1"])
    await stored.add("b:1", layers=[b"2"])

    async def names(query: str, version: str = "1.51") -> list[str]:
        status, found = await api.request("GET", f"/v{version}/images/json?{query}")
        assert status == 200
        return [summary["RepoTags"][0] for summary in found]

    assert await names('filters={"reference":{"b":true}}') == ["b:1"]
    assert await names("filter=a*", "1.40") == ["a:1"]
    assert await names('filter=a*&filters={"dangling":["false"]}', "1.40") == ["a:1"]
    assert sorted(await names("filter=a*")) == ["a:1", "b:1"], "that parameter is gone"
    assert await api.request("GET", '/images/json?filters={"x":["1"]}') == (400, {"message": "invalid filter 'x'"})
    assert await api.request("GET", '/images/json?filters={"before":["x"]}') == (404, {"message": "No such image: x:latest"})


async def test_inspect_shows_an_image_as_dockerd_does(api: Api, stored: StoredImages) -> None:
    config = ImageConfig(
        env=["A=1"],
        cmd=["sh"],
        exposed_ports={"80/tcp": {}},
        labels={},
        stop_signal="SIGINT",
        healthcheck=Healthcheck(test=["CMD", "x"], interval_ns=5),
    )
    image_id = await stored.add(
        "a:1", layers=[b"1", b"22"], config=config, created="2024-01-02T03:04:05.100000000Z", author="me", variant="v2"
    )
    await stored.store.tag(stored.images.get(image_id), parse_reference(f"a@{image_id}"))
    directories = stored.images.layer_directories(stored.images.get(image_id))
    status, document = await api.request("GET", "/v1.51/images/a:1/json")
    assert status == 200
    assert document.pop("Metadata")["LastTagTime"].endswith("Z")
    assert document.pop("Descriptor") == await descriptor(stored, image_id)
    assert document == {
        "Id": str(image_id),
        "RepoTags": ["a:1"],
        "RepoDigests": [f"a@{image_id}"],
        "Parent": "",
        "Comment": "",
        "Created": "2024-01-02T03:04:05.1Z",
        "DockerVersion": "",
        "Author": "me",
        "Architecture": "amd64",
        "Variant": "v2",
        "Os": "linux",
        "Size": 3,
        "GraphDriver": {"Data": {"LowerDir": directories[1], "UpperDir": directories[0]}, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": [str(Digest.of(b"1")), str(Digest.of(b"22"))]},
        "Config": {
            "Cmd": ["sh"],
            "Entrypoint": None,
            "Env": ["A=1"],
            "ExposedPorts": {"80/tcp": {}},
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5},
            "Labels": None,
            "OnBuild": None,
            "StopSignal": "SIGINT",
            "User": "",
            "Volumes": None,
            "WorkingDir": "",
        },
    }


async def test_older_clients_get_what_they_know(api: Api, stored: StoredImages) -> None:
    await stored.add("a:1", created=None, container="c" * 64, os_version="1")
    _, newest = await api.request("GET", "/v1.51/images/a:1/json")
    assert not {"Created", "VirtualSize", "Container", "ContainerConfig"} & newest.keys()
    assert newest["OsVersion"] == "1"
    assert "Hostname" not in newest["Config"]
    _, older = await api.request("GET", "/v1.49/images/a:1/json")
    assert older["Config"]["Hostname"] == ""
    _, oldest = await api.request("GET", "/v1.43/images/a:1/json")
    assert (oldest["Created"], oldest["VirtualSize"], oldest["Container"]) == ("0001-01-01T00:00:00Z", 5, "c" * 64)
    assert oldest["ContainerConfig"]["AttachStdin"] is False
    assert oldest["Metadata"] == {"LastTagTime": "0001-01-01T00:00:00Z"}


async def test_an_image_without_layers_can_be_shown(api: Api, stored: StoredImages) -> None:
    await stored.add("empty:1", layers=[])
    _, document = await api.request("GET", "/images/empty:1/json")
    assert document["GraphDriver"]["Data"] is None
    assert document["RootFS"] == {"Type": "layers"}


async def test_inspect_takes_names_with_slashes_and_a_platform(api: Api, stored: StoredImages) -> None:
    image_id = await stored.add("example.test:5000/some/thing:1")
    _, document = await api.request("GET", "/images/example.test:5000/some/thing:1/json")
    assert document["Id"] == str(image_id)
    wanted = quote('{"os":"linux","architecture":"arm64"}')
    status, error = await api.request("GET", f"/images/{image_id}/json?platform={wanted}")
    assert (status, "does not match the specified platform (linux/arm64)" in error["message"]) == (404, True)
    assert (await api.request("GET", f"/v1.48/images/{image_id}/json?platform={wanted}"))[0] == 200, "too old to know"
    status, error = await api.request("GET", f"/images/{image_id}/json?platform={wanted}&manifests=1")
    assert (status, error["message"]) == (400, "conflicting options: manifests and platform options cannot both be set")
    status, error = await api.request("GET", f"/images/{image_id}/json?platform={wanted}&platform={wanted}")
    assert (status, error["message"]) == (400, "multiple platform parameters not supported")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/images/nothing/json", 404, "No such image: nothing:latest"),
        (f"/images/sha256:{HEX}/json", 404, f"No such image: sha256:{HEX}"),
        ("/images/UPPER/json", 400, "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("/images/nothing/history", 404, "No such image: nothing:latest"),
        ("/images/nothing/get", 404, "No such image: nothing:latest"),
        ("/images/get", 400, "no images to save"),
    ],
)
async def test_what_cannot_be_shown(api: Api, stored: StoredImages, path: str, status: int, message: str) -> None:
    assert await api.request("GET", path) == (status, {"message": message})


async def test_history(api: Api, stored: StoredImages) -> None:
    image_id = await stored.add("a:1", layers=[b"1", b"22"])
    assert await api.request("GET", "/images/a:1/history") == (
        200,
        [
            {"Comment": "", "Created": 0, "CreatedBy": "layer 1", "Id": str(image_id), "Size": 2, "Tags": ["a:1"]},
            {"Comment": "", "Created": 0, "CreatedBy": "layer 0", "Id": "<missing>", "Size": 1, "Tags": None},
        ],
    )


async def test_tag(api: Api, stored: StoredImages) -> None:
    await stored.add("a:1")
    assert await api.request("POST", "/images/a:1/tag?repo=x/b&tag=2") == (201, None)
    assert await api.request("POST", "/images/a:1/tag?repo=c") == (201, None)
    assert stored.images.resolve("x/b:2") == stored.images.resolve("c:latest")
    for query, message in (
        ("", "repository name must have at least one component"),
        ("repo=a@sha256:" + HEX, "cannot import digest reference"),
        ("repo=a&tag=!", "invalid tag format"),
        ("repo=sha256", "refusing to create an ambiguous tag using digest algorithm as name"),
    ):
        assert await api.request("POST", f"/images/a:1/tag?{query}") == (400, {"message": message})
    assert (await api.request("POST", "/images/missing/tag?repo=b"))[0] == 404


async def test_remove(api: Api, stored: StoredImages) -> None:
    image_id = await stored.add("a:1", "b:1")
    assert await api.request("DELETE", "/images/a:1") == (200, [{"Untagged": "a:1"}])
    [container] = stored.use(image_id, "c" * 64)
    status, error = await api.request("DELETE", "/images/b:1")
    assert (status, error["message"].startswith('conflict: unable to remove repository reference "b:1" (must force)')) == (409, True)
    stored.usage.withdraw(container)
    assert await api.request("DELETE", "/images/b:1?force=1&noprune=1") == (
        200,
        [{"Untagged": "b:1"}, {"Deleted": str(image_id)}, {"Deleted": str(Digest.of(b"layer"))}],
    )
    assert await api.request("DELETE", "/images/b:1") == (404, {"message": "No such image: b:1"})
    assert await api.request("DELETE", "/images/%20") == (400, {"message": "image name cannot be blank"})
    platform = quote('{"os":"linux","architecture":"arm64"}')
    await stored.add("a:1")
    assert (await api.request("DELETE", f"/images/a:1?platforms={platform}"))[0] == 404
    image_id = await stored.add_index("b:1", amd64=[b"amd"], arm64=[b"arm"])
    arm64 = stored.images.resolve("b:1").manifests[1].descriptor.digest
    status, removed = await api.request("DELETE", f"/images/b:1?platforms={platform}")
    assert (status, removed) == (200, [{"Deleted": str(arm64)}, {"Deleted": str(Digest.of(b"arm"))}])
    assert (await api.request("DELETE", f"/images/b:1?platforms={platform}"))[0] == 404
    amd64 = quote('{"os":"linux","architecture":"amd64"}')
    status, removed = await api.request("DELETE", f"/images/b:1?platforms={amd64}")
    assert (status, removed) == (200, [{"Untagged": "b:1"}, {"Deleted": str(image_id)}, {"Deleted": str(Digest.of(b"amd"))}])
    await stored.add_index("b:1", amd64=[b"amd"], arm64=[b"arm"])
    assert (await api.request("DELETE", f"/v1.49/images/b:1?platforms={platform}"))[0] == 200
    assert (await api.request("GET", "/images/b:1/json"))[0] == 404, "older clients do not know the parameter"


async def test_prune(api: Api, stored: StoredImages) -> None:
    assert await api.request("POST", "/images/prune") == (200, {"ImagesDeleted": None, "SpaceReclaimed": 0})
    image_id = await stored.add(layers=[b"1234"])
    assert await api.request("POST", '/images/prune?filters={"dangling":{"true":true}}') == (
        200,
        {"ImagesDeleted": [{"Deleted": str(image_id)}, {"Deleted": str(Digest.of(b"1234"))}], "SpaceReclaimed": 4},
    )


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("fromImage=UPPER", 400, "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("fromImage=x&tag=!", 400, "invalid tag format"),
        ("fromImage=scratch", 403, "'scratch' is a reserved name"),
        ("fromImage=x&platform=no/such/plat/form", 400, '"no/such/plat/form": cannot parse platform specifier: invalid argument'),
        ("fromSrc=-&repo=UPPER", 400, "invalid reference format: repository name (library/UPPER) must be lowercase"),
    ],
)
async def test_what_cannot_be_created(api: Api, stored: StoredImages, query: str, status: int, message: str) -> None:
    assert await api.request("POST", f"/images/create?{query}") == (status, {"message": message})


class FakeLoading(ImageArchives):
    """Takes the place of loading and importing, which need workers; keeps what it was given."""

    def __init__(self) -> None:
        self.body = b""
        self.options: dict[str, Any] = {}
        self.loaded: list[LoadedImage] = []
        self.error: Exception | None = None

    async def load(
        self, stream: AsyncIterator[bytes], *, platform: Platform | None = None, progress: Progress | None = None, completes: bool = False
    ) -> Sequence[LoadedImage]:
        self.body = b"".join([chunk async for chunk in stream])
        self.options = {"platform": platform, "progress": progress}
        if progress is not None:
            await progress(LayerProgress(Digest.of(b"l"), 0, 10))
        if self.error is not None:
            raise self.error
        return self.loaded

    async def import_(self, stream: AsyncIterator[bytes], request: ImportRequest) -> Digest:
        self.body = b"".join([chunk async for chunk in stream])
        self.options = {"request": request}
        if self.error is not None:
            raise self.error
        return Digest.of(b"imported")


@pytest.fixture
def loading(services: FakeServices) -> FakeLoading:
    loading = FakeLoading()
    services.image_archives = loading
    return loading


async def test_a_load_tells_names_or_ids(api: Api, loading: FakeLoading) -> None:
    tag = parse_reference("a:1")
    old = Digest.of(b"old")
    document: Any = None
    loading.loaded = [
        LoadedImage(Digest.of(b"1"), document, (tag, parse_reference("b:1")), {tag: old}),
        LoadedImage(Digest.of(b"2"), document, (), {}),
    ]
    assert await lines(api, "POST", "/images/load?quiet=1", data=b"archive" * 50_000) == (
        200,
        [
            {"stream": f"The image a:1 already exists, renaming the old one with ID {old} to empty string\n"},
            {"stream": "Loaded image: a:1\n"},
            {"stream": "Loaded image: b:1\n"},
            {"stream": f"Loaded image ID: {Digest.of(b'2')}\n"},
        ],
    )
    assert loading.body == b"archive" * 50_000
    assert loading.options == {"platform": None, "progress": None}


async def test_a_load_that_fails_says_so_in_band(api: Api, loading: FakeLoading) -> None:
    loading.error = InvalidArchive("unexpected EOF")
    assert await lines(api, "POST", "/images/load", data=b"x") == (
        200,
        [{"errorDetail": {"message": "unexpected EOF"}, "error": "unexpected EOF"}],
    )


async def test_a_load_shows_progress_if_asked(api: Api, loading: FakeLoading) -> None:
    wanted = quote('{"os":"linux","architecture":"arm64"}')
    assert await lines(api, "POST", f"/images/load?quiet=0&platform={wanted}", data=b"x") == (
        200,
        [{"status": "Loading layer", "progressDetail": {"current": 0, "total": 10}, "id": Digest.of(b"l").short}],
    )
    assert str(loading.options["platform"]) == "linux/arm64"


async def test_a_client_that_goes_away_in_the_middle_is_no_end_of_the_archive(api: Api, services: FakeServices) -> None:
    """Half an archive must not be taken for a whole one."""
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()

    class Loading(FakeLoading):
        async def load(
            self,
            stream: AsyncIterator[bytes],
            *,
            platform: Platform | None = None,
            progress: Progress | None = None,
            completes: bool = False,
        ) -> Sequence[LoadedImage]:
            begun.set()
            try:
                return await super().load(stream, platform=platform, progress=progress, completes=completes)
            except BaseException as error:
                ended.set_result(error)
                raise

    services.image_archives = Loading()
    _reader, writer = await api.connect()
    writer.write(b"POST /images/load HTTP/1.1\r\nHost: docker\r\nContent-Length: 100000\r\n\r\nhalf")
    async with asyncio.timeout(5):
        await begun.wait()
        writer.close()
        assert isinstance(await ended, Cancelled)


async def test_import(api: Api, loading: FakeLoading) -> None:
    query = "fromSrc=-&repo=a&tag=1&message=hello&platform=linux/arm64&changes=CMD%20x&changes=ENV%20A%3D1"
    assert await lines(api, "POST", f"/images/create?{query}", data=b"rootfs") == (200, [{"status": str(Digest.of(b"imported"))}])
    request = loading.options["request"]
    assert (str(request.reference), list(request.changes), request.message) == ("a:1", ["CMD x", "ENV A=1"], "hello")
    assert (str(request.platform), loading.body) == ("linux/arm64", b"rootfs")
    await lines(api, "POST", "/images/create?fromSrc=-", data=b"rootfs")
    assert (loading.options["request"].message, loading.options["request"].reference) == ("Imported from -", None)
    loading.error = InvalidArchive("unexpected EOF")
    assert await api.request("POST", "/images/create?fromSrc=-", data=b"x") == (400, {"message": "unexpected EOF"})


async def test_saved_images_are_a_tar(api: Api, stored: StoredImages) -> None:
    await stored.add("a:1", layers=[b"1" * 3_000_000])
    for path in ("/images/a:1/get", "/images/get?names=a:1"):
        async with api.session.get(f"http://docker{path}") as response:
            body = await response.read()
            assert (response.status, response.content_type) == (200, "application/x-tar")
            assert body[257:262] == b"ustar"
            assert b"1" * 3_000_000 in body
            assert len(body) % 512 == 0
    wanted = quote('{"os":"linux","architecture":"arm64"}')
    assert (await api.request("GET", f"/images/a:1/get?platform={wanted}"))[0] == 404
