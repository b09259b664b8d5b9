"""The engine as a whole: ping, version, info, events, disk usage."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from teul.api.containers.views import now_ns, summary
from teul.api.http import query, versions
from teul.api.http.context import api_version, services
from teul.api.http.query import json_response
from teul.api.http.streaming import json_stream, while_connected
from teul.api.images.views import summary_view
from teul.api.volumes.routes import render_volume
from teul.errors import InvalidParameter
from teul.model.event import Event
from teul.model.runtime import OWN_NAMES
from teul.services.containers.request.log_drivers import DRIVERS as LOG_DRIVERS
from teul.services.images.disk_usage import DiskUsage, ImageUsage
from teul.services.images.listing import ImageQuery, ImageSummary
from teul.services.system import Info, Version
from teul.wire.jsonlog import format_time

_NEVER_CACHED = {"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Swarm": "inactive"}
_OBJECTS = frozenset({"container", "image", "volume", "build-cache"})


async def ping(_: web.Request) -> web.StreamResponse:
    """Clients learn the API version from the headers; HEAD is answered too."""
    return web.Response(text="OK", headers=_NEVER_CACHED)


async def version(request: web.Request) -> web.StreamResponse:
    """`docker version`."""
    return json_response(render_version_document(services(request).system.version()))


async def info(request: web.Request) -> web.StreamResponse:
    """`docker info`."""
    found = services(request)
    document = render_info(await found.system.info(), found.volumes.drivers.names())
    return json_response(versions.adapt("info", api_version(request), document))


async def events(request: web.Request) -> web.StreamResponse:
    """Send the events from now on, and with `since` those remembered of the past; ends at `until`."""
    since_ns = query.timestamp_ns(request, "since", quote="'")
    until_ns = query.timestamp_ns(request, "until", quote="'")
    if until_ns is not None and until_ns < (since_ns or 0):
        raise InvalidParameter(
            f"`since` time ({query.text(request, 'since')}) cannot be after `until` time ({query.text(request, 'until')})"
        )
    images_are_created = api_version(request) >= (1, 46)
    with services(request).events.subscribe(since_ns, until_ns, query.filters(request)) as subscription:
        async with while_connected(request), json_stream(request, line_end=b"\n") as stream:
            async for event in subscription:
                if images_are_created or (event.type, event.action) != ("image", "create"):
                    await stream.send(render_event(event))
    return stream.response


async def disk_usage(request: web.Request) -> web.StreamResponse:
    """`docker system df`, in the blocks that du(1) counts; since 1.42 `type` may choose which kinds of objects."""
    found, version = services(request), api_version(request)
    chosen = frozenset(request.query.getall("type", ()) if version >= (1, 42) else ()) or _OBJECTS
    for unknown in sorted(chosen - _OBJECTS):
        raise InvalidParameter(f"unknown object type: {unknown}")
    document: dict[str, Any] = {}
    if "image" in chosen:
        usage = await found.images.disk_usage()
        images = found.images.list(ImageQuery())
        document["LayersSize"] = usage.total_bytes
        document["Images"] = [_image_on_disk(image, usage, version) for image in images]
    if "container" in chosen:
        document["Containers"] = await _containers_on_disk(request)
    if "volume" in chosen:
        document["Volumes"] = [render_volume(usage.view, usage) for usage in await found.volumes.disk_usage()]
    if "build-cache" in chosen:
        document["BuildCache"] = []
    return json_response(document)


ROUTES = (
    ("GET", "/_ping", ping),
    ("GET", "/version", version),
    ("GET", "/info", info),
    ("GET", "/events", events),
    ("GET", "/system/df", disk_usage),
)


def render_event(event: Event) -> dict[str, Any]:
    """docker: the fields of old API versions (status, id, from) are still what clients read."""
    document: dict[str, Any] = {}
    if event.type in ("container", "image"):
        document = {"status": event.action, "id": event.actor_id}
    if event.type == "container":
        document["from"] = event.attributes.get("image", "")
    return {
        **document,
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor_id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }


def render_version_document(version: Version) -> dict[str, Any]:
    """The fields at the top repeat the component's, for clients older than components."""
    details = {
        "ApiVersion": version.api_version,
        "Arch": version.architecture,
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        # docker: the client prints this line for every engine; the language is not always Go.
        "GoVersion": f"none (Python {version.python_version})",
        "KernelVersion": version.kernel_version,
        "MinAPIVersion": version.minimum_api_version,
        "Os": version.os,
    }
    return {
        "Platform": {"Name": "Teul"},
        "Components": [{"Name": "Engine", "Version": version.version, "Details": details}],
        "Version": version.version,
        "ApiVersion": version.api_version,
        "MinAPIVersion": version.minimum_api_version,
        "GitCommit": details["GitCommit"],
        "GoVersion": details["GoVersion"],
        "Os": version.os,
        "Arch": version.architecture,
        "KernelVersion": version.kernel_version,
        "BuildTime": details["BuildTime"],
    }


def render_info(info: Info, volume_drivers: list[str]) -> dict[str, Any]:
    """dockerd's document in API v1.51; what Teul does not have is empty."""
    facts, limits = info.facts, info.limits
    return {
        "ID": facts.engine_id,
        "Containers": info.containers,
        "ContainersRunning": info.containers_running,
        "ContainersPaused": info.containers_paused,
        "ContainersStopped": info.containers_stopped,
        "Images": info.images,
        "Driver": "overlay2",
        "DriverStatus": info.driver_status,
        "Plugins": {"Volume": volume_drivers, "Network": ["bridge", "host", "null"], "Authorization": None, "Log": list(LOG_DRIVERS)},
        "MemoryLimit": limits.memory,
        "SwapLimit": limits.swap,
        "CpuCfsPeriod": limits.cpu_quota,
        "CpuCfsQuota": limits.cpu_quota,
        "CPUShares": limits.cpu_shares,
        "CPUSet": limits.cpuset,
        "PidsLimit": limits.pids,
        "IPv4Forwarding": info.ipv4_forwarding,
        "Debug": facts.debug,
        "NFd": info.open_files,
        "OomKillDisable": limits.oom_kill_disable,
        "NGoroutines": 0,
        "SystemTime": format_time(info.time_ns),
        "LoggingDriver": facts.log_driver,
        "CgroupDriver": info.cgroup_driver,
        "CgroupVersion": info.cgroup_version,
        "NEventsListener": info.listeners,
        "KernelVersion": info.kernel_version,
        "OperatingSystem": info.operating_system,
        "OSVersion": info.operating_system_version,
        "OSType": "linux",
        "Architecture": info.machine,
        "IndexServerAddress": "",
        "RegistryConfig": {
            "IndexConfigs": {"docker.io": {"Mirrors": [], "Name": "docker.io", "Official": True, "Secure": True}},
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "Mirrors": None,
        },
        "NCPU": info.cpus,
        "MemTotal": info.memory_bytes,
        "GenericResources": None,
        "DockerRootDir": facts.root,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": info.hostname,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": facts.version,
        "Runtimes": {name: {"path": "teul"} for name in OWN_NAMES} | {each.name: {"path": each.path} for each in facts.runtimes.added},
        "DefaultRuntime": facts.runtimes.default,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        # Containers go on without the engine, always.
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "teul",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": info.security_options,
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": list(facts.cdi_directories),
        "DiscoveredDevices": [{"Source": "cdi", "ID": name} for name in info.cdi_devices],
        "Warnings": info.warnings or None,
    }


def _image_on_disk(image: ImageSummary, usage: DiskUsage, version: tuple[int, int]) -> dict[str, Any]:
    """An image of the list with the sizes that it has on the disk. One that was stored since the disk was looked at takes nothing yet."""
    found = usage.images.get(image.image.image_id, ImageUsage(0, 0))
    document = summary_view(image, version) | {"Containers": image.containers, "SharedSize": found.shared_size_bytes}
    return document | {key: found.size_bytes for key in ("Size", "VirtualSize") if key in document}


async def _containers_on_disk(request: web.Request) -> list[dict[str, Any]]:
    containers = services(request).containers
    found, now = containers.list(), now_ns()
    sizes = await asyncio.gather(*(containers.size(container, on_disk=True) for container in found))
    return [
        summary(container, image=container.image_reference, now_ns=now, sizes=size, names=containers.names(container))
        for container, size in zip(found, sizes, strict=True)
    ]
