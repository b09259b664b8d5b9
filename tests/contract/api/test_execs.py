"""Further processes in containers, as clients see them."""

from __future__ import annotations

from typing import Any

import pytest

from contract.api.served import Served
from contract.witness import Witness, methods_of
from teul.services.containers.execs import Execs
from teul.wire.stdcopy import frame
from unit.api.fake_services import FakeExecs

UNKNOWN = "0" * 63 + "f"


async def prepare(served: Served, script: str = "true", **config: Any) -> str:
    """An exec in `box`; its id."""
    status, document = await served.ask("POST", "/containers/box/exec", json={"Cmd": ["sh", "-c", script], **config})
    assert (status, list(document)) == (201, ["Id"])
    return str(document["Id"])


async def inspect(served: Served, exec_id: str) -> dict[str, Any]:
    status, document = await served.ask("GET", f"/exec/{exec_id}/json")
    assert status == 200
    found: dict[str, Any] = document
    return found


async def test_an_exec_is_prepared_runs_once_and_is_remembered(served: Served) -> None:
    container_id = await served.run("box")
    exec_id = await prepare(served, "echo out; exit 5", AttachStdout=True)
    document = await inspect(served, exec_id)
    assert (document["Running"], document["ExitCode"], document["Pid"], document["CanRemove"]) == (False, None, 0, False)
    assert (document["ContainerID"], document["ProcessConfig"]["entrypoint"]) == (container_id, "sh")
    stream = await served.open(f"/exec/{exec_id}/start", {})
    assert "application/vnd.docker.multiplexed-stream" in stream.head
    await served.exec_ran(exec_id, "out\n", 5)
    assert await stream.read_all() == frame(1, b"out\n")
    await stream.close()
    document = await inspect(served, exec_id)
    assert (document["Running"], document["ExitCode"]) == (False, 5)
    assert document["Pid"] > 0, "it goes on being told"
    again = (409, f"exec command {exec_id} has already run")
    assert await served.refusal("POST", f"/exec/{exec_id}/start", json={"Detach": True}) == again


async def test_a_running_exec(served: Served) -> None:
    container_id = await served.run("box")
    exec_id = await prepare(served, "sleep 60", Tty=True)
    assert await served.ask("POST", f"/exec/{exec_id}/start", json={"Detach": True, "Tty": True}) == (200, None)
    document = await inspect(served, exec_id)
    assert (document["Running"], document["ExitCode"]) == (True, None)
    assert document["Pid"] > 0
    assert await served.ask("POST", f"/exec/{exec_id}/resize?h=10&w=20") == (200, None)
    again = (409, f"exec command {exec_id} is already running")
    assert await served.refusal("POST", f"/exec/{exec_id}/start", json={"Detach": True}) == again
    assert (await served.ask("GET", "/containers/box/json"))[1]["ExecIDs"] == [exec_id]
    await served.ask("POST", "/containers/box/kill")
    await served.exec_ran(exec_id, "", 137)
    assert (await inspect(served, exec_id))["ExitCode"] == 137, "it ends with its container"
    assert await served.refusal("POST", f"/exec/{exec_id}/resize?h=1&w=1") == (409, f"container {container_id} is not running")


async def test_a_container_names_the_execs_that_run_or_may_yet(served: Served) -> None:
    await served.run("box")
    assert (await served.ask("GET", "/containers/box/json"))[1]["ExecIDs"] is None
    first, second = await prepare(served), await prepare(served)
    assert set((await served.ask("GET", "/containers/box/json"))[1]["ExecIDs"]) == {first, second}
    await served.ask("POST", f"/exec/{first}/start", json={"Detach": True})
    await served.exec_ran(first, "", 0)
    assert (await served.ask("GET", "/containers/box/json"))[1]["ExecIDs"] == [second]


@pytest.mark.parametrize(
    ("method", "action", "body"),
    [("GET", "json", None), ("POST", "start", {}), ("POST", "start", {"Detach": True}), ("POST", "resize?h=1&w=1", None)],
)
async def test_an_unknown_id_is_told(served: Served, method: str, action: str, body: dict[str, Any] | None) -> None:
    options = {} if body is None else {"json": body}
    assert await served.refusal(method, f"/exec/{UNKNOWN}/{action}", **options) == (404, f"No such exec instance: {UNKNOWN}")


async def test_only_a_running_container_takes_execs(served: Served) -> None:
    request = {"json": {"Cmd": ["true"]}}
    path = "/containers/box/exec"
    assert await served.refusal("POST", path, **request) == (404, "No such container: box")
    container_id = await served.create("box")
    assert await served.refusal("POST", path, **request) == (409, f"container {container_id} is not running")
    await served.ask("POST", "/containers/box/start")
    exec_id = await prepare(served)
    await served.ask("POST", "/containers/box/pause")
    assert await served.refusal("POST", path, **request) == (409, "Container box is paused, unpause the container before exec")
    paused = (409, f"Container {container_id} is paused, unpause the container before exec")
    assert await served.refusal("POST", f"/exec/{exec_id}/start", json={"Detach": True}) == paused
    stream = await served.open(f"/exec/{exec_id}/start", {})
    assert await stream.read_all() == frame(1, f"{paused[1]}\r\n".encode()), "a hijacked connection has no other way to tell"
    await stream.close()
    await served.ask("POST", "/containers/box/unpause")
    assert await served.ask("POST", f"/exec/{exec_id}/start", json={"Detach": True}) == (200, None), "it was not spent"


async def test_a_working_directory_is_absolute(served: Served) -> None:
    await served.run("box")
    body = {"Cmd": ["true"], "WorkingDir": "relative"}
    assert await served.refusal("POST", "/containers/box/exec", json=body) == (400, "Cwd must be an absolute path")


async def test_what_was_prepared_is_gone_with_the_run_and_all_of_it_with_the_container(served: Served) -> None:
    await served.run("box")
    prepared, ended = await prepare(served), await prepare(served)
    await served.ask("POST", f"/exec/{ended}/start", json={"Detach": True})
    await served.exec_ran(ended, "", 0)
    await served.ends("box", 0)
    assert await served.refusal("GET", f"/exec/{prepared}/json") == (404, f"No such exec instance: {prepared}")
    assert (await inspect(served, ended))["ExitCode"] == 0
    await served.ask("DELETE", "/containers/box")
    assert await served.refusal("GET", f"/exec/{ended}/json") == (404, f"No such exec instance: {ended}")


async def test_every_method_was_called(whole_suite: Witness) -> None:
    assert methods_of(FakeExecs) - {"exit"} <= methods_of(Execs)
    assert whole_suite.uncalled(FakeExecs) == set()
