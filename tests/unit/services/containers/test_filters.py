"""docker ps with its filters."""

from __future__ import annotations

from typing import Any

import pytest

from teul.errors import InvalidParameter, NotFound
from teul.model.config import ContainerConfig
from teul.model.container import Container, ContainerEndpoint, PublishedPort
from teul.model.document import Document
from teul.model.filter import Filters
from teul.model.health import Health, HealthStatus
from teul.model.host_config import HostConfig, PortBinding
from teul.model.lifecycle import ContainerState, Status
from teul.model.mount import MountPoint
from teul.services.containers.filters import ContainerQuery, select_containers


def container(name: str, status: Status, age: int, **changes: Any) -> Container:
    fields: dict[str, Any] = {
        "id": f"{age:x}" * 16,
        "name": name,
        "created_at_ns": 1000 - age,
        "image_id": "sha256:img",
        "image_reference": "busybox",
        "path": "sh",
        "args": [],
        "config": ContainerConfig(labels={"tier": name}),
        "host_config": HostConfig(network_mode="bridge"),
        "state": ContainerState(
            status=status, exit_code=3 if status is Status.EXITED else 0, started_at_ns=0 if status is Status.CREATED else 5
        ),
    }
    return Container(**{**fields, **changes})


NEW = container("new", Status.RUNNING, 1)
PAUSED = container("paused", Status.PAUSED, 2)
MADE = container("made", Status.CREATED, 3)
DONE = container("done", Status.EXITED, 4, image_id="sha256:other")
ALL = [NEW, PAUSED, MADE, DONE]


def get(reference: str) -> Container:
    for found in ALL:
        if reference in (found.name, found.id):
            return found
    raise NotFound(f"No such container: {reference}")


def select(containers: list[Container] = ALL, *, all: bool = False, limit: int = 0, **filters: list[str]) -> list[str]:  # noqa: A002
    query = ContainerQuery(all=all, limit=limit, filters=Filters({key.replace("_", "-"): values for key, values in filters.items()}))
    images = {"busybox": "sha256:img"}
    return [found.name for found in select_containers(containers, query, get=get, find_image_id=images.get)]


def test_running_ones_unless_all_or_some_are_asked_for() -> None:
    assert select() == ["new", "paused"]
    assert select(all=True) == ["new", "paused", "made", "done"]
    assert select(limit=3) == ["new", "paused", "made"]
    assert select(status=["exited"]) == ["done"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"name": ["e"]}, ["new", "paused", "made", "done"]),
        ({"name": ["^/?ne"]}, ["new"]),
        ({"name": ["/done"]}, ["done"]),
        ({"id": ["22"]}, ["paused"]),
        ({"label": ["tier"]}, ["new", "paused", "made", "done"]),
        ({"label": ["tier=made"]}, ["made"]),
        ({"status": ["running", "created"]}, ["new", "made"]),
        ({"exited": ["3"]}, ["done"]),
        ({"exited": ["0"]}, []),
        ({"ancestor": ["busybox"]}, ["new", "paused", "made"]),
        ({"ancestor": ["nosuch"]}, []),
        ({"before": ["made"]}, ["done"]),
        ({"since": ["made"]}, ["new", "paused"]),
        ({"before": ["new"], "since": ["done"]}, ["paused", "made"]),
        ({"network": ["bridge"]}, ["new", "paused", "made", "done"]),
        ({"network": ["other"]}, []),
        ({"is_task": ["true"]}, []),
        ({"health": ["none"]}, ["new", "paused", "made", "done"]),
        ({"health": ["healthy"]}, []),
    ],
)
def test_filters(filters: dict[str, Any], names: list[str]) -> None:
    assert select(all=True, **filters) == names


def test_health() -> None:
    """A container that was never probed has none."""
    probed = [container(status, Status.RUNNING, 9, health=Health(status=status)) for status in HealthStatus]
    for status in HealthStatus:
        assert select([*probed, NEW], health=[status]) == [status]
    assert select([*probed, NEW], health=["none", "healthy"]) == ["healthy", "new"]


def test_networks_by_name_and_beginning_of_the_id() -> None:
    endpoint = ContainerEndpoint(network_name="mine", network_id="abcdef", endpoint_id="e")
    attached = container("attached", Status.RUNNING, 9, endpoints={endpoint.network_name: endpoint})
    assert select([attached], network=["mine"]) == select([attached], network=["abc"]) == ["attached"]
    assert select([attached], network=["bcd"]) == []


def test_volumes_by_source_name_and_destination() -> None:
    mounts = [MountPoint(type="volume", name="data", source="/v", destination="/data"), MountPoint(source="/srv", destination="/www")]
    mounted = container("mounted", Status.RUNNING, 9, mounts=mounts)
    for value in ("data", "/data", "/srv", "/www"):
        assert select([mounted], volume=[value]) == ["mounted"]
    assert select([mounted], volume=["/v"]) == []


def test_ports() -> None:
    """docker: of containers that run, by what is really published."""
    empty: Any = Document
    config = ContainerConfig(exposed_ports={"80/tcp": empty, "53/udp": empty})
    host_config = HostConfig(port_bindings={"80/tcp": [PortBinding(host_port="8000-8100")]})
    port = PublishedPort(container_port=80, protocol="tcp", host_address="0.0.0.0", host_port=8080)
    endpoint = ContainerEndpoint(network_name="bridge", network_id="n", endpoint_id="e", gateway="172.17.0.1", ports=(port,))
    web = container("web", Status.RUNNING, 9, config=config, host_config=host_config, endpoints={"bridge": endpoint})
    ended = container("ended", Status.EXITED, 9, config=config, host_config=host_config)
    assert select([ended], all=True, expose=["80"]) == []
    assert select([web], expose=["79-81"]) == select([web], expose=["53/udp"]) == select([web], publish=["8080"]) == ["web"]
    assert select([web], expose=["53"]) == select([web], publish=["80"]) == []


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"nosuch": ["x"]}, "invalid filter 'nosuch'"),
        (
            {"status": ["up"]},
            f"invalid filter 'status=up': invalid value for state (up): must be one of {', '.join(Status)}",
        ),
        ({"exited": ["x"]}, "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ({"is_task": ["x"]}, "invalid filter 'is-task=[x]'"),
        ({"publish": ["8080:80"]}, "filter for 'publish' should not contain ':': 8080:80"),
        ({"expose": ["http"]}, "error while looking up for expose http: invalid port 'http'"),
        ({"before": ["nosuch"]}, "No such container: nosuch"),
    ],
)
def test_what_cannot_be_asked(filters: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidParameter, NotFound)) as caught:
        select(all=True, **filters)
    assert caught.value.message == message
