"""dockerd's documents, field for field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from teul.api.containers.views import Surroundings, command_line, human_duration, inspection, networks, status_text, summary
from teul.model.document import Empty
from teul.model.health import Health, HealthStatus, ProbeResult
from teul.model.lifecycle import ContainerState, Status
from teul.model.mount import MountPoint
from teul.model.network_config import EndpointSettings, NetworkingConfig
from unit.api.fake_services import IMAGE_ID, NOW_NS, SECOND_NS, attached_endpoint, make_container

MINUTE, HOUR = 60, 3600
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (45.9, "45 seconds"),
        (MINUTE, "About a minute"),
        (119, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (HOUR - 1, "59 minutes"),
        (HOUR, "About an hour"),
        (1.4 * HOUR, "About an hour"),
        (1.5 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
        (3 * 365 * DAY, "3 years"),
        (-5, "Less than a second"),
    ],
)
def test_ages_are_told_as_docker_tells_them(seconds: float, words: str) -> None:
    assert human_duration(seconds) == words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.RUNNING, "Up 3 seconds"),
        (Status.PAUSED, "Up 3 seconds (Paused)"),
        (Status.RESTARTING, "Restarting (7) 2 seconds ago"),
        (Status.EXITED, "Exited (7) 2 seconds ago"),
        (Status.CREATED, "Created"),
        (Status.REMOVING, "Removal In Progress"),
        (Status.DEAD, "Dead"),
    ],
)
def test_status_texts(status: Status, words: str) -> None:
    state = ContainerState(status=status, exit_code=7, started_at_ns=NOW_NS - 3 * SECOND_NS, finished_at_ns=NOW_NS - 2 * SECOND_NS)
    assert status_text(state, NOW_NS) == words


def test_health_is_told_once_there_is_any() -> None:
    container = make_container()
    around = Surroundings(root="/var/lib/teul")
    assert "Health" not in inspection(container, around)["State"]
    result = ProbeResult(started_at_ns=1_000_000_000, ended_at_ns=1_500_000_000, exit_code=-1, output="late")
    container.health = Health(status=HealthStatus.UNHEALTHY, failing_streak=3, log=(result,))
    assert inspection(container, around)["State"]["Health"] == {
        "Status": "unhealthy",
        "FailingStreak": 3,
        "Log": [{"Start": "1970-01-01T00:00:01Z", "End": "1970-01-01T00:00:01.5Z", "ExitCode": -1, "Output": "late"}],
    }


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ("starting", "Up 3 minutes (health: starting)"),
        ("healthy", "Up 3 minutes (healthy)"),
        ("unhealthy", "Up 3 minutes (unhealthy)"),
    ],
)
def test_status_tells_the_health_of_a_running_container(health: str, words: str) -> None:
    state = ContainerState(status=Status.RUNNING, started_at_ns=NOW_NS - 180_000_000_000)
    assert status_text(state, NOW_NS, Health(status=HealthStatus(health))) == words
    frozen = ContainerState(status=Status.PAUSED, started_at_ns=NOW_NS - 180_000_000_000)
    assert status_text(frozen, NOW_NS, Health(status=HealthStatus(health))) == "Up 3 minutes (Paused)"


def test_commands_are_quoted_as_docker_quotes_them() -> None:
    assert command_line(make_container(args=["-c", "echo 'a b'", "x"])) == "sh -c 'echo 'a b'' x"
    assert command_line(make_container(args=[])) == "sh"


def test_a_summary() -> None:
    container = make_container(
        state=ContainerState(status=Status.RUNNING, pid=7, started_at_ns=NOW_NS),
        endpoints={"bridge": attached_endpoint()},
        mounts=[MountPoint(type="bind", source="/srv", destination="/www", rw=True, propagation="rprivate")],
    )
    container.config.exposed_ports = {"80/tcp": Empty()}
    document = summary(container, image="busybox", now_ns=NOW_NS + 5 * SECOND_NS, sizes=(1, 2))
    assert " ".join(document) == (
        "Id Names Image ImageID Command Created Ports SizeRw SizeRootFs Labels State Status HostConfig NetworkSettings Mounts"
    )
    assert document["Ports"] == [{"PrivatePort": 80, "Type": "tcp"}]
    assert document["Created"] == NOW_NS // SECOND_NS
    assert document["HostConfig"] == {"NetworkMode": "bridge"}
    assert document["Status"] == "Up 5 seconds"
    assert document["Mounts"][0]["Source"] == "/srv"
    assert document["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == "172.17.0.2"


def test_an_inspection_has_dockerds_fields_in_its_order() -> None:
    document = inspection(make_container(), Surroundings(root="/var/lib/teul", sizes=(1, 2)))
    assert " ".join(document) == (
        "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver Platform MountLabel "
        "ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver SizeRw SizeRootFs Mounts Config NetworkSettings"
    )
    assert " ".join(document["State"]) == "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt"
    assert document["Created"] == "2023-11-14T22:13:20.123456789Z"
    assert document["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
    assert (document["Image"], document["Name"], document["ExecIDs"], document["LogPath"]) == (IMAGE_ID, "/box", None, "")


def test_a_running_containers_inspection() -> None:
    container = make_container(
        state=ContainerState(status=Status.PAUSED, pid=7, started_at_ns=NOW_NS), endpoints={"bridge": attached_endpoint()}
    )
    container.config.exposed_ports = {"80/tcp": Empty()}
    document = inspection(container, Surroundings(root="/r", lower_directories=["/top", "/bottom"], exec_ids=["e1"]))
    state, data, network = document["State"], document["GraphDriver"]["Data"], document["NetworkSettings"]
    assert (state["Running"], state["Paused"], state["Status"], state["Pid"]) == (True, True, "paused", 7)
    directory = f"/r/containers/{container.id}"
    assert data == {
        "LowerDir": "/top:/bottom",
        "MergedDir": "/proc/7/root",
        "UpperDir": f"{directory}/upper",
        "WorkDir": f"{directory}/work",
    }
    assert document["LogPath"] == f"{directory}/{container.id}-json.log"
    assert document["ExecIDs"] == ["e1"]
    assert network["SandboxKey"] == "/proc/7/ns/net"
    assert network["Ports"] == {"80/tcp": None}
    assert (network["IPAddress"], network["IPPrefixLen"], network["MacAddress"]) == ("172.17.0.2", 16, "02:42:ac:11:00:02")
    assert network["Gateway"] == network["Networks"]["bridge"]["Gateway"] == "172.17.0.1"


@pytest.mark.parametrize(
    ("mode", "names"), [("", ["bridge"]), ("default", ["bridge"]), ("none", ["none"]), ("host", ["host"]), ("container:abc", [])]
)
def test_networks_before_the_start(mode: str, names: list[str]) -> None:
    container = make_container()
    container.host_config.network_mode = mode
    assert list(networks(container)) == names


def test_what_was_asked_of_a_network_is_told_with_what_came_of_it() -> None:
    asked = NetworkingConfig(endpoints_config={"bridge": EndpointSettings(aliases=["a"], mac_address="02:00:00:00:00:01")})
    before = networks(make_container(networking=asked))["bridge"]
    assert (before["Aliases"], before["MacAddress"], before["IPAddress"]) == (["a"], "02:00:00:00:00:01", "")
    after = networks(make_container(networking=asked, endpoints={"bridge": attached_endpoint()}))["bridge"]
    assert (after["Aliases"], after["MacAddress"], after["NetworkID"]) == (["a"], "02:42:ac:11:00:02", "n" * 64)


@pytest.mark.parametrize("mode", ["bridge", "mine"])
def test_the_address_asked_for_on_the_first_network_is_also_the_containers(mode: str) -> None:
    container = make_container("box")
    container.host_config.network_mode = mode
    assert "MacAddress" not in inspection(container, Surroundings(root="/r"))["Config"]
    container.attachments = {"other": EndpointSettings(), mode: EndpointSettings(mac_address="02:42:ac:11:00:09")}
    assert inspection(container, Surroundings(root="/r"))["Config"]["MacAddress"] == "02:42:ac:11:00:09"


def test_documents_are_json() -> None:
    container = make_container()
    for document in (summary(container, image="x", now_ns=0), inspection(container, Surroundings(root="/r"))):
        decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
        assert decoded["Id"] == container.id
