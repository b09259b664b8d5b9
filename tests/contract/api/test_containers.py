"""Containers as clients see them: states, answers, and what is refused in which words."""

from __future__ import annotations

import asyncio

import pytest

from contract.api.served import SECONDS, Served
from contract.witness import Witness, methods_of
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.service import Containers
from teul.wire.stdcopy import Demultiplexer, frame
from unit.api.fake_services import FakeContainers

LOGS = "/containers/box/logs?stdout=1&stderr=1"


async def test_a_container_lives(served: Served) -> None:
    container_id = await served.create("box")
    assert (await served.state("box"))["Status"] == "created"
    assert await served.ask("POST", "/containers/box/start") == (204, None)
    state = await served.state("box")
    assert (state["Status"], state["Running"]) == ("running", True)
    assert state["Pid"] > 0
    await served.ends("box", 7)
    state = await served.state("box")
    assert (state["Status"], state["Running"], state["ExitCode"], state["Pid"]) == ("exited", False, 7, 0)
    assert await served.ask("POST", f"/containers/{container_id}/start") == (204, None)
    assert (await served.state("box"))["ExitCode"] == 0
    assert await served.ask("POST", "/containers/box/stop?t=0") == (204, None)
    assert (await served.state("box"))["ExitCode"] == 137
    assert await served.ask("DELETE", "/containers/box") == (204, None)
    assert await served.refusal("GET", "/containers/box/json") == (404, "No such container: box")


async def test_a_container_is_found_by_id_name_and_beginning(served: Served) -> None:
    container_id = await served.create("box")
    for reference in (container_id, container_id[:12], "box"):
        status, document = await served.ask("GET", f"/containers/{reference}/json")
        assert (status, document["Id"], document["Name"]) == (200, container_id, "/box")


async def test_the_list_begins_with_the_newest(served: Served) -> None:
    assert await served.ask("GET", "/containers/json?all=1") == (200, [])
    ids = {await served.create("one"), await served.run("two")}
    _, entries = await served.ask("GET", "/containers/json?all=1&size=1")
    assert {entry["Id"] for entry in entries} == ids
    assert [entry["Created"] for entry in entries] == sorted((entry["Created"] for entry in entries), reverse=True)
    assert all(0 <= entry.get("SizeRw", 0) <= entry["SizeRootFs"] for entry in entries)
    _, entries = await served.ask("GET", "/containers/json")
    assert [(entry["Names"], entry["State"], entry["Image"]) for entry in entries] == [(["/two"], "running", "busybox")]


UNKNOWN = [
    ("GET", "/containers/nosuch/json"),
    ("POST", "/containers/nosuch/start"),
    ("POST", "/containers/nosuch/stop"),
    ("POST", "/containers/nosuch/restart"),
    ("POST", "/containers/nosuch/pause"),
    ("POST", "/containers/nosuch/unpause"),
    ("POST", "/containers/nosuch/rename?name=new"),
    ("POST", "/containers/nosuch/wait"),
    ("POST", "/containers/nosuch/attach?stream=1&stdout=1"),
    ("GET", "/containers/nosuch/logs?stdout=1"),
    ("POST", "/containers/nosuch/resize?h=1&w=1"),
    ("GET", "/containers/nosuch/top"),
    ("DELETE", "/containers/nosuch?force=1"),
]


@pytest.mark.parametrize(("method", "path"), UNKNOWN)
async def test_an_unknown_name_is_told(served: Served, method: str, path: str) -> None:
    assert await served.refusal(method, path) == (404, "No such container: nosuch")


async def test_what_cannot_be_made(served: Served) -> None:
    container_id = await served.create("box")
    taken = (
        f'Conflict. The container name "/box" is already in use by container "{container_id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    create = "/containers/create?name="
    assert await served.refusal("POST", f"{create}box", json={"Image": "busybox"}) == (409, taken)
    assert await served.refusal("POST", f"{create}%2Fbox", json={"Image": "busybox"}) == (409, taken)
    assert await served.refusal("POST", f"{create}new", json={"Image": "nosuch"}) == (404, "No such image: nosuch:latest")
    status, message = await served.refusal("POST", f"{create}-", json={"Image": "busybox"})
    assert (status, message) == (400, "Invalid container name (-), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")


async def test_what_runs_is_not_started_and_what_does_not_run_is_not_stopped(served: Served) -> None:
    await served.create("box")
    assert await served.ask("POST", "/containers/box/stop") == (304, None)
    await served.ask("POST", "/containers/box/start")
    assert await served.ask("POST", "/containers/box/start") == (304, None)


async def test_a_restart_ends_what_runs_and_starts(served: Served) -> None:
    await served.create("box")
    for _ in range(2):
        assert await served.ask("POST", "/containers/box/restart?t=0") == (204, None)
        assert (await served.state("box"))["Status"] == "running"


@pytest.mark.parametrize(
    ("method", "action"),
    [("POST", "pause"), ("POST", "resize?h=1&w=1"), ("GET", "top")],
)
async def test_what_needs_a_running_container(served: Served, method: str, action: str) -> None:
    container_id = await served.create("box")
    assert await served.refusal(method, f"/containers/box/{action}") == (409, f"container {container_id} is not running")


async def test_a_running_container_has_processes_and_a_size(served: Served) -> None:
    await served.run("box", Tty=True)
    status, document = await served.ask("GET", "/containers/box/top")
    assert (status, list(document)) == (200, ["Processes", "Titles"])
    assert "PID" in document["Titles"]
    assert len(document["Processes"]) == 1
    assert await served.ask("POST", "/containers/box/resize?h=20&w=70") == (200, None)


async def test_signals(served: Served) -> None:
    container_id = await served.create("box")
    kill = "/containers/box/kill"
    prefix = "cannot kill container: box: "
    assert await served.refusal("POST", kill) == (409, f"{prefix}container {container_id} is not running")
    assert await served.refusal("POST", f"{kill}?signal=NONE") == (400, f"{prefix}invalid signal: NONE")
    unknown = "cannot kill container: nosuch: No such container: nosuch"
    assert await served.refusal("POST", "/containers/nosuch/kill") == (404, unknown)
    await served.ask("POST", "/containers/box/start")
    assert await served.ask("POST", f"{kill}?signal=CONT") == (204, None)
    assert (await served.state("box"))["Status"] == "running"
    assert await served.ask("POST", kill) == (204, None)
    state = await served.state("box")
    assert (state["Status"], state["ExitCode"]) == ("exited", 137), "KILL waits for the end"


async def test_a_paused_container_can_do_nothing_but_go_on_or_end(served: Served) -> None:
    container_id = await served.run("box")
    assert await served.refusal("POST", "/containers/box/unpause") == (409, f"container {container_id} is not paused")
    assert await served.ask("POST", "/containers/box/pause") == (204, None)
    state = await served.state("box")
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    for method, action, message in (
        ("POST", "/pause", f"container {container_id} is already paused"),
        ("POST", "/start", "cannot start a paused container, try unpause instead"),
        ("POST", "/attach?stream=1&stdout=1", "container box is paused, unpause the container before attach"),
        ("DELETE", "", 'cannot remove container "/box": container is paused and must be unpaused first'),
    ):
        assert await served.refusal(method, f"/containers/box{action}") == (409, message)
    assert await served.ask("POST", "/containers/box/unpause") == (204, None)
    assert (await served.state("box"))["Status"] == "running"
    await served.ask("POST", "/containers/box/pause")
    assert await served.ask("POST", "/containers/box/kill?signal=WINCH") == (204, None)
    assert (await served.state("box"))["Status"] == "running", "it goes on, to get the signal"
    await served.ask("POST", "/containers/box/pause")
    assert await served.ask("POST", "/containers/box/kill") == (204, None)
    assert (await served.state("box"))["Status"] == "exited"


async def test_names_change(served: Served) -> None:
    container_id = await served.create("box")
    other_id = await served.create("other")
    assert await served.ask("POST", "/containers/box/rename?name=new") == (204, None)
    assert (await served.ask("GET", "/containers/new/json"))[1]["Name"] == "/new"
    assert await served.refusal("GET", "/containers/box/json") == (404, "No such container: box")
    rename = f"/containers/{container_id}/rename?name="
    assert await served.refusal("POST", rename) == (400, "Neither old nor new names may be empty")
    assert await served.refusal("POST", f"{rename}new") == (400, "Renaming a container with the same name as its current name")
    taken = (
        f'Error when allocating new name: Conflict. The container name "/other" is already in use by container "{other_id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    assert await served.refusal("POST", f"{rename}other") == (409, taken)
    status, message = await served.refusal("POST", f"{rename}-")
    assert (status, message.partition(", ")[0]) == (400, "Error when allocating new name: Invalid container name (/-)")
    assert await served.create("box"), "the old name is free"


async def test_only_what_does_not_run_is_removed_unless_by_force(served: Served) -> None:
    await served.run("box")
    running = 'cannot remove container "/box": container is running: stop the container before removing or force remove'
    assert await served.refusal("DELETE", "/containers/box") == (409, running)
    no_link = "Conflict, cannot remove the default link name of the container"
    assert await served.refusal("DELETE", "/containers/box?link=1") == (409, no_link)
    assert await served.ask("DELETE", "/containers/box?force=1&v=1") == (204, None)
    assert await served.refusal("DELETE", "/containers/box?force=1") == (404, "No such container: box")


async def test_waiting_is_over_at_once_where_nothing_runs(served: Served) -> None:
    await served.run("box")
    await served.ends("box", 3)
    assert await served.ask("POST", "/containers/box/wait") == (200, {"StatusCode": 3})


@pytest.mark.parametrize(
    ("condition", "code"), [("", 4), ("?condition=not-running", 4), ("?condition=next-exit", 4), ("?condition=removed", 4)]
)
async def test_everybody_who_waits_is_told(served: Served, condition: str, code: int) -> None:
    await served.run("box")
    async with asyncio.timeout(SECONDS):
        url = f"http://docker/v1.51/containers/box/wait{condition}"
        async with served.session.post(url) as first, served.session.post(url) as second:
            await served.ends("box", code)
            if "removed" in condition:
                await served.ask("DELETE", "/containers/box")
            assert [await response.json() for response in (first, second)] == [{"StatusCode": code}] * 2


async def test_the_next_exit_is_not_the_last_one(served: Served) -> None:
    await served.run("box")
    await served.ends("box", 1)
    async with asyncio.timeout(SECONDS), served.session.post("http://docker/v1.51/containers/box/wait?condition=next-exit") as response:
        await served.ask("POST", "/containers/box/start")
        await served.ends("box", 2)
        assert await response.json() == {"StatusCode": 2}


async def test_who_is_attached_sees_the_output_to_its_end(served: Served) -> None:
    await served.run("box")
    stream = await served.open("/containers/box/attach?stream=1&stdout=1&stderr=1")
    assert "application/vnd.docker.multiplexed-stream" in stream.head
    await served.writes("box", 1, "out")
    await served.writes("box", 2, "err")
    await served.ends("box", 0)
    assert await stream.read_frames() == {1: b"out\n", 2: b"err\n"}
    await stream.close()


async def test_who_attaches_before_the_start_sees_all(served: Served) -> None:
    await served.create("box")
    stream = await served.open("/containers/box/attach?stream=1&stdout=1")
    await served.ask("POST", "/containers/box/start")
    await served.writes("box", 1, "first")
    await served.ends("box", 0)
    assert await stream.read_all() == frame(1, b"first\n")
    await stream.close()


async def test_the_log_has_what_was_written(served: Served) -> None:
    await served.run("box")
    for number, text in ((1, "one"), (2, "two"), (1, "three")):
        await served.writes("box", number, text)
    await served.ends("box", 0)
    for query, expected in (
        ("stdout=1&stderr=1", [(1, b"one\n"), (2, b"two\n"), (1, b"three\n")]),
        ("stdout=1", [(1, b"one\n"), (1, b"three\n")]),
        ("stderr=1", [(2, b"two\n")]),
        ("stdout=1&stderr=1&tail=2", [(2, b"two\n"), (1, b"three\n")]),
        ("stdout=1&tail=0", []),
        ("stdout=1&follow=1", [(1, b"one\n"), (1, b"three\n")]),
    ):
        async with asyncio.timeout(SECONDS), served.session.get(f"http://docker/v1.51/containers/box/logs?{query}") as response:
            assert response.status == 200
            assert Demultiplexer().feed(await response.read()) == expected, query


async def test_a_followed_log_ends_with_the_container(served: Served) -> None:
    await served.run("box")
    await served.writes("box", 1, "past")
    async with asyncio.timeout(SECONDS), served.session.get(f"http://docker/v1.51{LOGS}&follow=1") as response:
        assert await response.content.readexactly(8 + 5) == frame(1, b"past\n")
        await served.writes("box", 2, "present")
        assert await response.content.readexactly(8 + 8) == frame(2, b"present\n")
        await served.ends("box", 0)
        assert await response.content.read() == b""


async def test_a_container_without_a_log(served: Served) -> None:
    await served.create("box", HostConfig={"LogConfig": {"Type": "none"}})
    assert await served.refusal("GET", LOGS) == (501, "configured logging driver does not support reading")


async def test_every_method_was_called(whole_suite: Witness) -> None:
    handles = {"add", "exit", "log"}
    assert methods_of(FakeContainers) - handles <= methods_of(Containers) | methods_of(Lifecycle)
    assert whole_suite.uncalled(FakeContainers) == {"add"}, "which is how unit tests go without create"
