"""Containers over HTTP: parameters in, documents out."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from teul.errors import NotFound
from teul.model.lifecycle import ContainerState, paused, start_failed
from unit.api.fake_services import IMAGE_ID, RUNNING, FakeImages, make_container
from unit.api.served_api import Api, until


async def test_create_passes_everything_on(api: Api) -> None:
    body = {
        "Image": "busybox",
        "Cmd": ["true"],
        "HostConfig": {"AutoRemove": True},
        "NetworkingConfig": {"EndpointsConfig": {"bridge": None}},
    }
    status, document = await api.request("POST", "/v1.51/containers/create?name=web&platform=linux/amd64", json=body)
    assert status == 201
    assert document["Warnings"] == ["one warning"]
    (call,) = api.services.containers.calls
    request = call[1]
    assert document["Id"] == api.services.containers.get("web").id
    assert (request.name, request.platform, request.config.cmd, request.host_config.auto_remove) == ("web", "linux/amd64", ["true"], True)
    assert list(request.networking.endpoints_config) == ["bridge"]


@pytest.mark.parametrize(("version", "shallow"), [("1.43", True), ("1.44", False)])
async def test_what_read_only_means_depends_on_the_version(api: Api, version: str, shallow: bool) -> None:
    await api.request("POST", f"/v{version}/containers/create", json={"Image": "busybox"})
    assert api.services.containers.calls[0][1].shallow_read_only is shallow


async def test_a_missing_image_is_404_so_that_the_client_pulls(api: Api) -> None:
    api.services.containers.failure = NotFound("No such image: nosuch:latest")
    assert await api.request("POST", "/containers/create", json={"Image": "nosuch"}) == (404, {"message": "No such image: nosuch:latest"})


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"", {"Content-Type": "application/json"}, "invalid JSON: EOF"),
        (b"{}", {"Content-Type": "text/plain"}, "unsupported Content-Type header (text/plain): must be 'application/json'"),
    ],
)
async def test_a_body_that_is_none(api: Api, body: bytes, headers: dict[str, str], message: str) -> None:
    assert await api.request("POST", "/containers/create", data=body, headers=headers) == (400, {"message": message})
    assert not api.services.containers.calls


async def test_a_huge_body_is_refused(api: Api) -> None:
    status, document = await api.request(
        "POST", "/containers/create", data=io.BytesIO(b" " * (17 << 20)), headers={"Content-Type": "application/json"}
    )
    assert (status, document) == (400, {"message": "request body is larger than 16777216 bytes"})


async def test_start_and_stop_twice(api: Api) -> None:
    api.services.containers.add(make_container())
    assert await api.request("POST", "/containers/box/start") == (204, None)
    assert await api.request("POST", "/containers/box/start") == (304, None)
    assert await api.request("POST", "/v1.51/containers/box/stop?t=3&signal=INT") == (204, None)
    assert await api.request("POST", "/v1.41/containers/box/stop?signal=INT") == (304, None)
    assert api.services.containers.calls[2:] == [("stop", "box", "INT", 3), ("stop", "box", None, None)]


async def test_start_with_a_document_is_refused(api: Api) -> None:
    status, document = await api.request("POST", "/containers/box/start", json={"Binds": []})
    assert status == 400
    assert document["message"].startswith("starting container with non-empty request body was deprecated")


@pytest.mark.parametrize(
    ("state", "method", "path", "status", "call"),
    [
        (RUNNING, "POST", "/containers/box/restart?t=0", 204, ("restart", "box", None, 0)),
        (RUNNING, "POST", "/containers/box/pause", 204, ("pause", "box")),
        (paused(RUNNING), "POST", "/containers/box/unpause", 204, ("unpause", "box")),
        (RUNNING, "POST", "/containers/box/rename?name=new", 204, ("rename", "box", "new")),
        (RUNNING, "DELETE", "/containers/box?force=1&v=1", 204, ("remove", "box", True, True, False)),
        (RUNNING, "POST", "/containers/box/resize?h=24&w=80", 200, ("resize", "box", 24, 80)),
        (RUNNING, "GET", "/containers/box/top", 200, ("top", "box", "-ef")),
        (RUNNING, "GET", "/containers/box/top?ps_args=aux", 200, ("top", "box", "aux")),
    ],
)
async def test_what_is_passed_on(api: Api, state: ContainerState, method: str, path: str, status: int, call: tuple[Any, ...]) -> None:
    api.services.containers.add(make_container(state=state))
    assert (await api.request(method, path))[0] == status
    assert api.services.containers.calls[0] == call


async def test_kill_says_what_it_could_not_do(api: Api) -> None:
    container = api.services.containers.add(make_container())
    assert await api.request("POST", "/containers/box/kill") == (
        409,
        {"message": f"cannot kill container: box: container {container.id} is not running"},
    )
    assert await api.request("POST", "/containers/nosuch/kill?signal=HUP") == (
        404,
        {"message": "cannot kill container: nosuch: No such container: nosuch"},
    )
    assert api.services.containers.calls == [("kill", "box", "KILL"), ("kill", "nosuch", "HUP")]


async def test_top(api: Api) -> None:
    api.services.containers.add(make_container(state=RUNNING))
    assert await api.request("GET", "/containers/box/top") == (200, {"Processes": [["1", "sh"]], "Titles": ["PID", "CMD"]})


async def test_wait_answers_its_headers_before_the_end(api: Api) -> None:
    """The docker CLI starts the container only after these headers have come."""
    api.services.containers.add(make_container(state=RUNNING))
    async with api.session.post("http://docker/v1.51/containers/box/wait?condition=next-exit") as response:
        assert response.status == 200
        assert api.services.containers.calls == [("wait", "box", "next-exit")]
        api.services.containers.exit("box", 42)
        assert await response.json() == {"StatusCode": 42}


async def test_wait_tells_why_there_was_no_start(api: Api) -> None:
    api.services.containers.add(make_container(state=start_failed(ContainerState(), exit_code=127, error="no such file")))
    async with api.session.post("http://docker/v1.51/containers/box/wait") as response:
        assert await response.json() == {"StatusCode": 127, "Error": {"Message": "no such file"}}


async def test_wait_is_cancelled_with_its_client(api: Api) -> None:
    container = api.services.containers.add(make_container(state=RUNNING))
    async with api.session.post("http://docker/v1.51/containers/box/wait") as response:
        assert response.status == 200
        future = api.services.containers.exits[container.id]
        response.close()
        async with asyncio.timeout(2):
            await asyncio.wait([future])
        assert future.cancelled()


async def test_wait_of_old_clients_has_no_condition_and_no_early_headers(api: Api) -> None:
    api.services.containers.add(make_container(state=RUNNING))
    waiting = asyncio.ensure_future(api.request("POST", "/v1.29/containers/box/wait?condition=removed"))
    await until(lambda: api.services.containers.calls)
    assert api.services.containers.calls == [("wait", "box", "not-running")]
    api.services.containers.exit("box", 1)
    assert await waiting == (200, {"StatusCode": 1})


async def test_wait_for_what_cannot_happen(api: Api) -> None:
    assert await api.request("POST", "/containers/box/wait?condition=never") == (400, {"message": 'invalid condition: "never"'})
    assert await api.request("POST", "/containers/nosuch/wait") == (404, {"message": "No such container: nosuch"})


async def test_the_list_shows_the_image_by_name_while_the_name_leads_to_it(api: Api) -> None:
    images = FakeImages({"busybox": IMAGE_ID})
    api.services.images = images
    api.services.containers.add(make_container())
    _, (entry,) = await api.request("GET", "/containers/json?all=1")
    assert (entry["Image"], entry["ImageID"]) == ("busybox", IMAGE_ID)
    images.names["busybox"] = "sha256:" + "2" * 64
    _, (entry,) = await api.request("GET", "/containers/json?all=1")
    assert entry["Image"] == IMAGE_ID
    images.names.clear()
    _, (entry,) = await api.request("GET", "/containers/json?all=1")
    assert entry["Image"] == IMAGE_ID


async def test_links_are_shown_and_removed_by_names_with_a_slash(api: Api) -> None:
    containers = api.services.containers
    container = containers.add(make_container())
    containers.linked_names, containers.shown_links = ["/web/db"], ["/box:/web/db"]
    _, (entry,) = await api.request("GET", "/containers/json?all=1")
    assert entry["Names"] == [f"/{container.name}", "/web/db"]
    _, document = await api.request("GET", "/containers/box/json")
    assert document["HostConfig"]["Links"] == ["/box:/web/db"]
    assert await api.request("GET", "/containers/web/db/json") == (404, {"message": "No such container: web/db"})
    assert await api.request("DELETE", "/containers/web/db?link=1") == (404, {"message": "No such container: web/db"})


async def test_the_list_is_filtered_and_measured(api: Api) -> None:
    api.services.containers.add(make_container("one"))
    api.services.containers.add(make_container("two"))
    assert await api.request("GET", "/containers/json") == (200, [])
    _, entries = await api.request("GET", '/containers/json?all=1&size=1&filters={"name":["one"]}')
    assert [(entry["Names"], entry["SizeRw"], entry["SizeRootFs"]) for entry in entries] == [(["/one"], 12, 3456)]
    assert await api.request("GET", '/containers/json?filters={"nosuch":["x"]}') == (400, {"message": "invalid filter 'nosuch'"})
    assert await api.request("GET", "/containers/json?limit=x") == (400, {"message": 'strconv.Atoi: parsing "x": invalid syntax'})


async def test_inspect(api: Api) -> None:
    container = api.services.containers.add(make_container())
    _, document = await api.request("GET", "/containers/box/json?size=1")
    assert document["Id"] == container.id
    assert document["GraphDriver"]["Data"]["LowerDir"] == "/root/snapshots/top/fs:/root/snapshots/bottom/fs"
    assert document["SizeRootFs"] == 3456
    api.services.images = FakeImages({})
    _, document = await api.request("GET", "/containers/box/json")
    assert document["GraphDriver"]["Data"]["LowerDir"] == ""
    assert "SizeRw" not in document
    assert await api.request("GET", "/containers/nosuch/json") == (404, {"message": "No such container: nosuch"})
