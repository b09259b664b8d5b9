"""Stats and update over HTTP: the documents that Docker's clients read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from teul.api.containers.stats_views import stats_document
from teul.errors import InvalidParameter, NotFound
from teul.model.container import Container
from teul.services.containers.resources import ContainerResources, Measurement, Sample
from teul.services.containers.update import UpdateContainer
from unit.api.fake_services import NOW_NS, SECOND_NS, make_container
from unit.api.served_api import Api

_ZEROS = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_NO_IO = dict.fromkeys(
    (
        *("io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive"),
        *("io_wait_time_recursive", "io_merged_recursive", "io_time_recursive", "sectors_recursive"),
    )
)
INTERFACE = {f"{way}_{what}": 0 for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")}


def measurement(version: int, *, second: int = 0, **changes: Any) -> Measurement:
    usage: Any = {
        "cpu": {
            "total_ns": 5_000 + second,
            "user_ns": 3_000,
            "system_ns": 2_000,
            "percpu_ns": [4_000, 1_000] if version == 1 else None,
            "periods": 3,
            "throttled_periods": 2,
            "throttled_ns": 1_000,
        },
        "memory": {
            "version": version,
            "usage_bytes": 4096,
            "peak_bytes": 8192 if version == 1 else None,
            "limit_bytes": None,
            "failures": 0,
            "stats": {"total_rss": 100, "anon": 200, "unheard_of": 7},
        },
        "io": {
            "version": version,
            "io_bytes": [(8, 0, "Read", 512)] if version == 1 else [],
            "operations": [(8, 0, "Read", 1)] if version == 1 else None,
        },
        "pids": {"version": version, "current": 2, "limit": None},
    }
    fields: dict[str, Any] = {
        "read_at_ns": NOW_NS + second * SECOND_NS,
        "usage": usage,
        "system_cpu_ns": 90_000,
        "online_cpus": 2,
        "memory_bytes": 1 << 30,
        "interfaces": {"eth1": INTERFACE, "eth0": INTERFACE},
    }
    return Measurement(**{**fields, **changes})


def test_a_container_that_does_not_run_has_name_id_and_zeros() -> None:
    container = make_container()
    document = stats_document(Sample(container=container, now=None))
    assert document == {
        "name": "/box",
        "id": container.id,
        "read": "0001-01-01T00:00:00Z",
        "preread": "0001-01-01T00:00:00Z",
        "pids_stats": {},
        "blkio_stats": _NO_IO,
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _ZEROS,
        "precpu_stats": _ZEROS,
        "memory_stats": {},
    }


def test_a_sample_of_version_1() -> None:
    document = stats_document(Sample(container=make_container(), now=measurement(1, second=1), before=measurement(1)))
    assert list(document) == [
        *("name", "id", "read", "preread", "pids_stats", "blkio_stats", "num_procs", "storage_stats", "cpu_stats", "precpu_stats"),
        *("memory_stats", "networks"),
    ]
    assert (document["preread"], document["read"]) == ("2023-11-14T22:13:20.123456789Z", "2023-11-14T22:13:21.123456789Z")
    assert document["cpu_stats"] == {
        "cpu_usage": {"total_usage": 5001, "percpu_usage": [4000, 1000], "usage_in_kernelmode": 2000, "usage_in_usermode": 3000},
        "system_cpu_usage": 90_000,
        "online_cpus": 2,
        "throttling_data": {"periods": 3, "throttled_periods": 2, "throttled_time": 1000},
    }
    assert document["precpu_stats"]["cpu_usage"]["total_usage"] == 5000
    assert document["pids_stats"] == {"current": 2}
    memory = document["memory_stats"]
    assert (memory["usage"], memory["max_usage"], memory["limit"]) == (4096, 8192, 1 << 30)
    assert "failcnt" not in memory
    assert len(memory["stats"]) == 32
    assert list(memory["stats"]) == sorted(memory["stats"])
    assert (memory["stats"]["total_rss"], memory["stats"]["cache"]) == (100, 0)
    assert document["blkio_stats"] == {name: [] for name in _NO_IO} | {
        "io_service_bytes_recursive": [{"major": 8, "minor": 0, "op": "Read", "value": 512}],
        "io_serviced_recursive": [{"major": 8, "minor": 0, "op": "Read", "value": 1}],
    }
    assert list(document["networks"]) == ["eth0", "eth1"]


def test_a_sample_of_version_2() -> None:
    document = stats_document(Sample(container=make_container(), now=measurement(2)))
    assert "percpu_usage" not in document["cpu_stats"]["cpu_usage"]
    assert document["pids_stats"] == {"current": 2, "limit": 2**64 - 1}
    assert document["blkio_stats"] == _NO_IO
    assert "max_usage" not in document["memory_stats"]
    assert document["memory_stats"]["stats"]["anon"] == 200
    assert "total_rss" not in document["memory_stats"]["stats"]
    assert document["precpu_stats"] == _ZEROS


def test_without_a_network_of_its_own_there_are_no_networks() -> None:
    nothing: dict[str, dict[str, int]] = {}
    for interfaces in (None, nothing):
        assert "networks" not in stats_document(Sample(container=make_container(), now=measurement(2, interfaces=interfaces)))


class FakeResources(ContainerResources):
    """Two samples a stream; keeps what it was asked for."""

    def __init__(self) -> None:
        self.container = make_container()
        self.calls: list[tuple[Any, ...]] = []
        self.warnings: list[str] = []

    def check_stats(self, reference: str, *, stream: bool, one_shot: bool) -> Container:
        self.calls.append(("check", reference, stream, one_shot))
        if reference == "nosuch":
            raise NotFound("No such container: nosuch")
        if stream and one_shot:
            raise InvalidParameter("cannot have stream=true and one-shot=true")
        return self.container

    async def sample(self, container: Container, *, one_shot: bool = False) -> Sample:
        return Sample(container=container, now=measurement(2), before=None if one_shot else measurement(2))

    async def watch(self, container: Container) -> AsyncIterator[Sample]:
        yield Sample(container=container, now=measurement(2))
        yield Sample(container=container, now=None)

    async def update(self, reference: str, request: UpdateContainer) -> list[str]:
        self.calls.append(("update", reference, request))
        return self.warnings


@pytest.fixture
def resources(api: Api) -> FakeResources:
    fake = FakeResources()
    api.services.resources = fake
    return fake


async def test_a_stream_is_a_document_a_line(api: Api, resources: FakeResources) -> None:
    async with api.session.get("http://docker/v1.51/containers/box/stats") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        lines = (await response.read()).split(b"\n")
    assert [json.loads(line)["read"][:4] for line in lines[:-1]] == ["2023", "0001"]
    assert resources.calls == [("check", "box", True, False)]


async def test_one_document(api: Api, resources: FakeResources) -> None:
    _, document = await api.request("GET", "/v1.51/containers/box/stats?stream=0")
    assert document["preread"] != "0001-01-01T00:00:00Z"
    _, document = await api.request("GET", "/v1.51/containers/box/stats?stream=false&one-shot=1")
    assert document["preread"] == "0001-01-01T00:00:00Z"
    await api.request("GET", "/v1.40/containers/box/stats?stream=false&one-shot=1")
    assert [call[2:] for call in resources.calls] == [(False, False), (False, True), (False, False)]


@pytest.mark.usefixtures("resources")
async def test_refusals_come_before_the_stream(api: Api) -> None:
    assert await api.request("GET", "/containers/nosuch/stats") == (404, {"message": "No such container: nosuch"})
    refused = (400, {"message": "cannot have stream=true and one-shot=true"})
    assert await api.request("GET", "/containers/box/stats?one-shot=1") == refused


async def test_update_reads_resources_and_policy(api: Api, resources: FakeResources) -> None:
    body = {"Memory": 1 << 30, "pidslimit": 5, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}, "CpusetCpus": None}
    assert await api.request("POST", "/containers/box/update", json=body) == (200, {"Warnings": None})
    request = resources.calls[0][2]
    assert (request.resources.memory, request.resources.pids_limit, request.resources.cpuset_cpus) == (1 << 30, 5, "")
    assert (request.restart_policy.name, request.restart_policy.maximum_retry_count) == ("on-failure", 2)
    resources.warnings = ["one warning"]
    assert await api.request("POST", "/v1.39/containers/box/update", json={"PidsLimit": 5}) == (200, {"Warnings": ["one warning"]})
    assert resources.calls[1][2].resources.pids_limit is None
    assert resources.calls[1][2].restart_policy.name == ""


@pytest.mark.usefixtures("resources")
async def test_an_update_must_be_a_document(api: Api) -> None:
    status, document = await api.request("POST", "/containers/box/update", json={"Memory": "much"})
    assert status == 400
    assert document["message"].startswith("invalid JSON: ")
