"""Execs over HTTP (their streams: test_hijack.py)."""

from __future__ import annotations

from typing import Any

import pytest

from unit.api.fake_services import RUNNING, make_container
from unit.api.served_api import Api


@pytest.fixture(autouse=True)
def box(api: Api) -> None:
    """The container that the execs are in."""
    api.services.containers.add(make_container(state=RUNNING))


async def create(api: Api, **body: Any) -> str:
    status, document = await api.request("POST", "/v1.51/containers/box/exec", json={"Cmd": ["sh", "-c", "id"], **body})
    assert status == 201
    return str(document["Id"])


async def test_inspection_has_dockerds_fields(api: Api) -> None:
    identifier = await create(api, User="root", Tty=True, AttachStdin=True, DetachKeys="ctrl-p,q")
    _, document = await api.request("GET", f"/exec/{identifier}/json")
    assert document == {
        "ID": identifier,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {"tty": True, "entrypoint": "sh", "arguments": ["-c", "id"], "privileged": False, "user": "root"},
        "OpenStdin": True,
        "OpenStderr": False,
        "OpenStdout": False,
        "CanRemove": False,
        "ContainerID": make_container("box").id,
        "DetachKeys": "EHE=",
        "Pid": 0,
    }


async def test_the_user_is_left_out_when_none_was_asked_for(api: Api) -> None:
    _, document = await api.request("GET", f"/exec/{await create(api)}/json")
    assert "user" not in document["ProcessConfig"]
    assert document["DetachKeys"] == ""


async def test_detached_start_returns_at_once(api: Api) -> None:
    identifier = await create(api)
    assert await api.request("POST", f"/exec/{identifier}/start", json={"Detach": True}) == (200, None)
    assert api.services.execs.calls == [("start", identifier, True, False)]


async def test_resize(api: Api) -> None:
    identifier = await create(api)
    await api.request("POST", f"/exec/{identifier}/start", json={"Detach": True})
    assert await api.request("POST", f"/exec/{identifier}/resize?h=10&w=20") == (200, None)
    assert api.services.execs.calls[1:] == [("resize", identifier, 10, 20)]


async def test_old_clients_have_no_console_size(api: Api) -> None:
    _, document = await api.request("POST", "/v1.41/containers/box/exec", json={"Cmd": ["x"], "ConsoleSize": [1, 2]})
    assert api.services.execs.get(document["Id"]).config.console_size is None
    assert api.services.execs.get(await create(api, ConsoleSize=[1, 2])).config.console_size == (1, 2)


@pytest.mark.parametrize(
    ("body", "message"),
    [({}, "No exec command specified"), ({"Cmd": ["x"], "DetachKeys": "zz"}, "Invalid detach keys (zz) provided")],
)
async def test_what_cannot_be_made(api: Api, body: dict[str, Any], message: str) -> None:
    assert await api.request("POST", "/containers/box/exec", json=body) == (400, {"message": message})


async def test_what_is_not_there(api: Api) -> None:
    assert await api.request("GET", "/exec/nosuch/json") == (404, {"message": "No such exec instance: nosuch"})
