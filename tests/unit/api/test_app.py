"""Versions, routes, headers and errors: what every request passes through."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import pytest

from teul.api.app import Router, canonical_path
from unit.api.served_api import Api


async def test_every_response_tells_what_the_engine_is(api: Api) -> None:
    for path in ("/_ping", "/v1.51/_ping", "/nosuch"):
        async with api.session.get(f"http://docker{path}") as response:
            assert response.headers["Api-Version"] == "1.51"
            assert response.headers["Ostype"] == "linux"
            assert response.headers["Docker-Experimental"] == "false"
            assert response.headers["Server"].startswith("Teul/")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_ping(api: Api, method: str) -> None:
    async with api.session.request(method, "http://docker/_ping") as response:
        assert response.status == 200
        assert await response.text() == ("OK" if method == "GET" else "")
        assert response.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
        assert response.headers["Pragma"] == "no-cache"
        assert response.headers["Swarm"] == "inactive"
        assert response.content_type == "text/plain"


async def test_versions_in_range_are_spoken(api: Api) -> None:
    for version in ("1.24", "1.41", "1.51"):
        assert (await api.request("GET", f"/v{version}/_ping"))[0] == 200


async def test_a_client_that_is_too_old_is_told_in_plain_text(api: Api) -> None:
    status, text = await api.request("GET", "/v1.10/info")
    assert status == 400
    assert text == (
        "client version 1.10 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"
    )


async def test_a_client_that_is_too_new_is_told(api: Api) -> None:
    assert await api.request("GET", "/v1.99/info") == (
        400,
        {"message": "client version 1.99 is too new. Maximum supported API version is 1.51"},
    )


@pytest.mark.parametrize(("method", "path"), [("GET", "/nosuch"), ("POST", "/_ping"), ("GET", "/v1.41/containers"), ("GET", "/v1.x/info")])
async def test_an_unknown_route_is_no_page(api: Api, method: str, path: str) -> None:
    assert await api.request(method, path) == (404, {"message": "page not found"})


async def test_what_nobody_foresaw_is_told_by_its_number_only(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.services.containers.failure = ZeroDivisionError("secret detail")
    with caplog.at_level(logging.ERROR):
        status, document = await api.request("POST", "/containers/create", json={"Image": "busybox"})
    assert status == 500
    identifier = document["message"].split()[2].rstrip(":")
    assert "secret" not in document["message"]
    assert identifier in caplog.text
    assert "secret detail" in caplog.text


async def test_a_request_may_be_as_long_as_with_docker(api: Api) -> None:
    """Filters with hundreds of ids, credentials in a header."""
    long = "x" * 100_000
    assert (await api.request("GET", f"/_ping?filters={long}", headers={"X-Registry-Auth": long}))[0] == 200


async def test_what_is_no_http_is_told_so_and_leaves_a_line_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        reader, writer = await api.connect()
        writer.write(b"GET / HTTP/9.9\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.split(b" ")[1] == b"400"
    assert "a client does not speak HTTP" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_client_that_has_gone_leaves_nothing_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.services.containers.failure = ConnectionResetError("Cannot write to closing transport")
    with caplog.at_level(logging.INFO), pytest.raises(aiohttp.ClientConnectionError):
        await api.request("POST", "/containers/create", json={"Image": "busybox"})
    assert caplog.text == ""


def route(path: str) -> tuple[str, str, Any]:
    async def handler(_: Any) -> Any:
        raise AssertionError(path)

    handler.__name__ = path
    return ("GET", path, handler)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/images/json", ("/images/json", {})),
        ("/images/a/b:c/json", ("/images/{name:.+}/json", {"name": "a/b:c"})),
        ("/images/json/json", ("/images/{name:.+}/json", {"name": "json"})),
        ("/containers/x/json", ("/containers/{id}/json", {"id": "x"})),
        ("/containers/x/y/json", None),
        ("/containers//json", None),
        ("/containers/xxjson", None),
        ("/", None),
        ("", None),
    ],
)
def test_paths_find_their_routes(path: str, expected: tuple[str, dict[str, str]] | None) -> None:
    router = Router([route("/images/{name:.+}/json"), route("/images/json"), route("/containers/{id}/json")])
    found = router.find("GET", path)
    assert (found and (found[0].__name__, found[1])) == expected


def test_head_is_answered_by_get() -> None:
    assert Router([route("/a/{b}")]).find("HEAD", "/a/1") is not None
    assert Router([route("/a/{b}")]).find("POST", "/a/1") is None


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/_ping", "/_ping"),
        ("/networks/", "/networks/"),
        ("//_ping", "/_ping"),
        ("/networks//", "/networks/"),
        ("/a/./b/", "/a/b/"),
        ("/a/b/..", "/a"),
        ("/../..", "/"),
        ("///", "/"),
        ("/containers/.hidden/a..b/json", "/containers/.hidden/a..b/json"),
    ],
)
def test_paths_have_a_canonical_form(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical
    assert canonical_path(canonical) == canonical
