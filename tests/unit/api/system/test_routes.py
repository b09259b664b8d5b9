"""Version, info, events, disk usage, and what is not supported."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from teul import __version__
from teul.api.system.routes import render_event
from teul.api.unsupported import ROUTES
from teul.model.event import Event
from unit.api.fake_services import make_container
from unit.api.served_api import Api, until


async def test_version_tells_the_range_of_the_api(api: Api) -> None:
    _, document = await api.request("GET", "/version")
    assert (document["ApiVersion"], document["MinAPIVersion"], document["Os"]) == ("1.51", "1.24", "linux")
    (engine,) = document["Components"]
    assert engine["Name"] == "Engine"
    assert engine["Details"]["ApiVersion"] == "1.51"
    assert document["Version"] == engine["Version"] == __version__


async def test_info_counts(api: Api) -> None:
    api.services.containers.add(make_container("one"))
    api.services.containers.add(make_container("two"))
    await api.services.containers.start("one")
    _, info = await api.request("GET", "/v1.51/info")
    assert (info["Containers"], info["ContainersRunning"], info["ContainersStopped"], info["Images"]) == (2, 1, 1, 1)
    assert info["NCPU"] > 0
    assert info["MemTotal"] > 1 << 20
    assert info["CgroupVersion"] == "2"
    assert info["DockerRootDir"] == "/root"
    assert info["Swarm"]["LocalNodeState"] == "inactive"
    assert info["FirewallBackend"] == {"Driver": "nftables"}
    assert "BridgeNfIptables" not in info
    assert "Expected" not in info["RuncCommit"]


async def test_info_for_old_clients(api: Api) -> None:
    _, info = await api.request("GET", "/v1.41/info")
    assert info["BridgeNfIptables"] is False
    assert info["RuncCommit"] == {"ID": "", "Expected": ""}
    assert "FirewallBackend" not in info
    assert "AllowNondistributableArtifactsCIDRs" in info["RegistryConfig"]


async def test_events_stream(api: Api) -> None:
    async with api.session.get('http://docker/v1.51/events?filters={"type":["container"]}') as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        api.services.events.publish(Event("image", "pull", "sha256:1"))
        api.services.events.publish(Event("container", "start", "abc", {"image": "busybox"}, 1_500_000_001))
        async with asyncio.timeout(2):
            line = await response.content.readline()
    assert json.loads(line) == {
        "status": "start",
        "id": "abc",
        "from": "busybox",
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "abc", "Attributes": {"image": "busybox"}},
        "scope": "local",
        "time": 1,
        "timeNano": 1_500_000_001,
    }


async def test_a_listener_that_leaves_is_forgotten(api: Api) -> None:
    async with api.session.get("http://docker/events") as response:
        assert api.services.events.listeners == 1
        response.close()
    await until(lambda: not api.services.events.listeners)


async def test_past_events_end_by_themselves(api: Api) -> None:
    for number in range(3):
        api.services.events.publish(Event("container", f"a{number}", "abc", {}, 1_000_000_000 * (number + 1)))
    async with api.session.get("http://docker/events?since=2&until=2.5") as response:
        lines = (await response.text()).splitlines()
    assert [json.loads(line)["Action"] for line in lines] == ["a1"]


async def test_created_images_are_told_since_1_46(api: Api) -> None:
    api.services.events.publish(Event("image", "create", "sha256:1", {}, 5))
    for version, count in (("1.45", 0), ("1.46", 1)):
        async with api.session.get(f"http://docker/v{version}/events?until={int(time.time())}") as response:
            assert len((await response.text()).splitlines()) == count


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("since=x", 'invalid value for \'since\': invalid timestamp "x": invalid seconds "x": invalid syntax'),
        ("since=5&until=4", "`since` time (5) cannot be after `until` time (4)"),
        ("filters=x", "invalid filter"),
    ],
)
async def test_events_that_cannot_be_asked_for(api: Api, query: str, message: str) -> None:
    assert await api.request("GET", f"/events?{query}") == (400, {"message": message})


def test_only_containers_and_images_have_the_old_fields() -> None:
    assert "status" not in render_event(Event("network", "connect", "n"))
    assert "from" not in render_event(Event("image", "pull", "i"))


async def test_disk_usage(api: Api) -> None:
    api.services.containers.add(make_container())
    _, document = await api.request("GET", "/system/df")
    assert set(document) == {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}
    assert (document["LayersSize"], document["Containers"][0]["SizeRw"]) == (4096, 8192)
    assert [(image["Size"], image["SharedSize"], image["Containers"]) for image in document["Images"]] == [(4096, 0, 0)]
    assert await api.request("GET", "/system/df?type=volume") == (200, {"Volumes": []})
    assert await api.request("GET", "/system/df?type=fish") == (400, {"message": "unknown object type: fish"})


@pytest.mark.parametrize("path", ["swarm", "nodes", "services/x", "tasks", "secrets", "configs/a/b"])
async def test_there_is_no_swarm(api: Api, path: str) -> None:
    status, document = await api.request("GET", f"/v1.51/{path}")
    assert status == 503
    assert document["message"].startswith('This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect')


async def test_there_are_no_plugins(api: Api) -> None:
    assert await api.request("GET", "/plugins") == (200, [])


async def test_what_is_not_supported_says_so(api: Api) -> None:
    assert await api.request("POST", "/build/cancel") == (501, {"message": "cancelling a build is not supported by this engine"})
    assert (await api.request("POST", "/build"))[0] == 501


async def test_there_is_no_build_cache(api: Api) -> None:
    assert await api.request("POST", "/build/prune") == (200, {"CachesDeleted": None, "SpaceReclaimed": 0})


def test_unsupported_routes_hide_no_supported_one() -> None:
    from teul.api.containers import execs
    from teul.api.containers import routes as containers
    from teul.api.system import routes as system

    supported = {(method, path) for module in (containers, execs, system) for method, path, _ in module.ROUTES}
    assert not supported & {(method, path) for method, path, _ in ROUTES}
