"""Volumes over HTTP: what is asked of the service, and how its answers are written."""

from __future__ import annotations

from unit.api.fake_services import FakeVolumes
from unit.api.served_api import Api

_MINE = {
    "CreatedAt": "2023-11-14T22:13:20Z",
    "Driver": "local",
    "Labels": {"a": "b"},
    "Mountpoint": "/root/volumes/mine/_data",
    "Name": "mine",
    "Options": None,
    "Scope": "local",
}


def fake(api: Api) -> FakeVolumes:
    assert isinstance(api.services.volumes, FakeVolumes)
    return api.services.volumes


async def test_a_volume_is_made_shown_and_removed(api: Api) -> None:
    assert await api.request("GET", "/volumes") == (200, {"Volumes": [], "Warnings": None})
    assert await api.request("POST", "/volumes/create", json={"Name": "mine", "Labels": {"a": "b"}}) == (201, _MINE)
    assert await api.request("GET", "/volumes/mine") == (200, _MINE)
    assert await api.request("GET", "/volumes") == (200, {"Volumes": [_MINE], "Warnings": None})
    assert await api.request("GET", '/volumes?filters={"name":["other"]}') == (200, {"Volumes": [], "Warnings": None})
    usage = _MINE | {"UsageData": {"RefCount": 1, "Size": 4096}}
    assert await api.request("GET", "/system/df?type=volume") == (200, {"Volumes": [usage]})
    assert (await api.request("DELETE", "/volumes/mine"))[0] == 204
    assert await api.request("DELETE", "/volumes/mine") == (404, {"message": "get mine: no such volume"})
    assert (await api.request("DELETE", "/volumes/mine?force=1"))[0] == 204


async def test_pruning_takes_named_ones_for_old_clients(api: Api) -> None:
    fake(api).made.clear()
    await api.request("POST", "/volumes/create", json={"Name": "mine"})
    assert await api.request("POST", "/v1.51/volumes/prune") == (200, {"VolumesDeleted": ["mine"], "SpaceReclaimed": 4096})
    assert await api.request("POST", "/v1.41/volumes/prune") == (200, {"VolumesDeleted": [], "SpaceReclaimed": 0})
    assert [filters.get("all") for filters in fake(api).pruned_by] == [(), ("true",)]


async def test_a_swarms_volumes_are_refused(api: Api) -> None:
    status, document = await api.request("POST", "/v1.51/volumes/create", json={"Name": "x", "ClusterVolumeSpec": {}})
    assert status == 503
    assert document["message"].startswith("This node is not a swarm manager")
