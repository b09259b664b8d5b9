"""How dockerd shows a container: the JSON of list and inspect, field for field and in its order.

Pure functions from records to documents. Source: moby daemon/inspect.go, daemon/container/view.go and state.go, API v1.51.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teul.model.container import Container, PublishedPort
from teul.model.document import render
from teul.model.health import Health, HealthStatus
from teul.model.lifecycle import ContainerState, Status
from teul.model.network import PREDEFINED
from teul.model.network_config import EndpointSettings
from teul.model.ports import port_map
from teul.services.networks.records import names_on
from teul.wire.jsonlog import format_time

ZERO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an inspection shows that is not in the record. `lower_directories` are the image's layers, topmost first."""

    root: str
    lower_directories: Sequence[str] = ()
    exec_ids: Sequence[str] = ()
    links: Sequence[str] = ()
    sizes: tuple[int, int] | None = None


def summary(
    container: Container, *, image: str, now_ns: int, sizes: tuple[int, int] | None = None, names: Sequence[str] = ()
) -> dict[str, Any]:
    """One entry of the list. `image` is the reference, or the image's id if the reference no longer means it; `sizes` are (rw, root fs).

    `names` are all that the container has, if there are others than its own.
    """
    host_config: dict[str, Any] = {"NetworkMode": container.host_config.network_mode}
    if container.host_config.annotations:
        host_config["Annotations"] = container.host_config.annotations
    return {
        "Id": container.id,
        "Names": [*names] or [f"/{container.name}"],
        "Image": image,
        "ImageID": container.image_id,
        **_manifest(container),
        "Command": command_line(container),
        "Created": container.created_at_ns // 1_000_000_000,
        "Ports": _port_summaries(container),
        **_sizes(sizes),
        "Labels": container.config.labels or {},
        "State": container.state.status,
        "Status": status_text(container.state, now_ns, container.health),
        "HostConfig": host_config,
        "NetworkSettings": {"Networks": networks(container)},
        "Mounts": [render(mount) for mount in container.mounts],
    }


def inspection(container: Container, around: Surroundings) -> dict[str, Any]:
    """All that is known of a container."""
    directory = f"{around.root}/containers/{container.id}"
    # docker: the network files are named once the container has been started for the first time.
    made = container.state.started_at_ns != 0
    host_config = render(container.host_config)
    # docker: what is shown is not what was asked for.
    host_config["Links"] = list(around.links) or None
    return {
        "Id": container.id,
        "Created": format_time(container.created_at_ns),
        "Path": container.path,
        "Args": container.args,
        "State": _state(container),
        "Image": container.image_id,
        "ResolvConfPath": f"{directory}/resolv.conf" if made else "",
        "HostnamePath": f"{directory}/hostname" if made else "",
        "HostsPath": f"{directory}/hosts" if made else "",
        "LogPath": f"{directory}/{container.id}-json.log" if made and container.host_config.log_config.type == "json-file" else "",
        "Name": f"/{container.name}",
        "RestartCount": container.restart_count,
        "Driver": container.driver,
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(around.exec_ids) or None,
        "HostConfig": host_config,
        "GraphDriver": {"Data": _overlay(container, directory, around.lower_directories), "Name": container.driver},
        **_sizes(around.sizes),
        "Mounts": [render(mount) for mount in container.mounts],
        "Config": render(container.config) | _mac_address(container),
        "NetworkSettings": _network_settings(container),
        **_manifest(container),
    }


def _manifest(container: Container) -> dict[str, Any]:
    return {"ImageManifestDescriptor": container.image_manifest} if container.image_manifest is not None else {}


def _mac_address(container: Container) -> dict[str, str]:
    """docker: what was asked for on the first network stands where older clients look for it, up to API 1.51 for all of them."""
    first = container.wanted_networks.get(container.host_config.network_mode)
    return {"MacAddress": first.mac_address} if first is not None and first.mac_address else {}


def networks(container: Container) -> dict[str, Any]:
    """What the container is, or will be, attached to, by the network's name."""
    wanted = container.wanted_networks
    if not container.endpoints:
        return {name: render(settings) for name, settings in wanted.items()}
    return {
        name: render(wanted.get(name) or EndpointSettings())
        | {
            "NetworkID": endpoint.network_id,
            "EndpointID": endpoint.endpoint_id,
            "Gateway": endpoint.gateway,
            "IPAddress": endpoint.ipv4,
            "IPPrefixLen": endpoint.ipv4_prefix,
            "IPv6Gateway": endpoint.gateway6,
            "GlobalIPv6Address": endpoint.ipv6,
            "GlobalIPv6PrefixLen": endpoint.ipv6_prefix,
            "MacAddress": endpoint.mac,
            "DNSNames": None if name in PREDEFINED else names_on(container, name),
        }
        for name, endpoint in container.endpoints.items()
    }


def command_line(container: Container) -> str:
    """docker: arguments with a blank in them stand in single quotes; nothing else is escaped."""
    return " ".join([container.path, *(f"'{argument}'" if " " in argument else argument for argument in container.args)])


def status_text(state: ContainerState, now_ns: int, health: Health | None = None) -> str:
    """`Up 3 seconds (healthy)`, `Exited (0) 2 minutes ago`, …: the STATUS column."""
    up = human_duration((now_ns - state.started_at_ns) / 1e9)
    ended = human_duration((now_ns - state.finished_at_ns) / 1e9)
    match state.status:
        case Status.RUNNING:
            return f"Up {up}{_health_suffix(health)}"
        case Status.PAUSED:
            return f"Up {up} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({state.exit_code}) {ended} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
        case Status.CREATED:
            return "Created"
        case Status.EXITED:
            return f"Exited ({state.exit_code}) {ended} ago" if state.finished_at_ns else ""


def human_duration(seconds: float) -> str:
    """docker: a rough span of time in words (go-units, HumanDuration)."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def render_time(time_ns: int) -> str:
    """RFC 3339, Go's zero time for 0."""
    return format_time(time_ns) if time_ns else ZERO_TIME


def _health_suffix(health: Health | None) -> str:
    if health is None:
        return ""
    return " (health: starting)" if health.status is HealthStatus.STARTING else f" ({health.status})"


def _state(container: Container) -> dict[str, Any]:
    state = container.state
    document: dict[str, Any] = {
        "Status": state.status,
        "Running": state.counts_as_running,
        "Paused": state.status is Status.PAUSED,
        "Restarting": state.status is Status.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": state.status is Status.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": render_time(state.started_at_ns),
        "FinishedAt": render_time(state.finished_at_ns),
    }
    if container.health is not None:
        document["Health"] = _health(container.health)
    return document


def _health(health: Health) -> dict[str, Any]:
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": format_time(result.started_at_ns),
                "End": format_time(result.ended_at_ns),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in health.log
        ],
    }


def _sizes(sizes: tuple[int, int] | None) -> dict[str, int]:
    return {} if sizes is None else {"SizeRw": sizes[0], "SizeRootFs": sizes[1]}


def _overlay(container: Container, directory: str, lower: Sequence[str]) -> dict[str, str]:
    """Where the file system's parts lie. Nothing is mounted on the host: the merged view is that of the container's first process."""
    pid = container.state.pid
    return {
        "LowerDir": ":".join(lower),
        "MergedDir": f"/proc/{pid}/root" if container.state.has_process else "",
        "UpperDir": f"{directory}/upper",
        "WorkDir": f"{directory}/work",
    }


def _network_settings(container: Container) -> dict[str, Any]:
    attached = networks(container)
    # docker: the default bridge's figures stand once more at the top, as in the days before networks had names.
    bridge = attached.get("bridge", {})
    running = container.state.has_process
    return {
        "Bridge": "",
        "SandboxID": container.id if running else "",
        "SandboxKey": f"/proc/{container.state.pid}/ns/net" if running else "",
        "Ports": ports(container),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": bridge.get("EndpointID", ""),
        "Gateway": bridge.get("Gateway", ""),
        "GlobalIPv6Address": bridge.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": bridge.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": bridge.get("IPAddress", ""),
        "IPPrefixLen": bridge.get("IPPrefixLen", 0),
        "IPv6Gateway": bridge.get("IPv6Gateway", ""),
        "MacAddress": bridge.get("MacAddress", ""),
        "Networks": attached,
    }


def ports(container: Container) -> dict[str, list[dict[str, str]] | None]:
    """The container's ports with the places where they are published; None where they are not."""
    return {port: [_binding(each) for each in places] or None for port, places in port_map(container).items()}


def _binding(port: PublishedPort) -> dict[str, str]:
    return {"HostIp": port.host_address, "HostPort": str(port.host_port)}


def _port_summaries(container: Container) -> list[dict[str, Any]]:
    summaries: list[dict[str, Any]] = []
    for text, places in port_map(container).items():
        number, _, protocol = text.partition("/")
        if not number.isdecimal():
            continue  # of an image that exposes what is no port
        entry = {"PrivatePort": int(number), "Type": protocol}
        summaries += [{"IP": place.host_address, **entry, "PublicPort": place.host_port} for place in places] or [entry]
    return summaries


def now_ns() -> int:
    """The time that ages in a list are counted from."""
    return time.time_ns()
