"""What becomes of each part of the Docker API here: the table that docs/compat.md is made of, and that the tests put to the proof.

Only what cannot be read from the code stands here. A path is honoured if it has a route outside api/unsupported.py, and a query
parameter if the code behind the route reads it; a property of a request's body is honoured if nothing is said about it, which a test
checks: some service must read it. Everything else is an `Entry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """The word that the page shows."""

    HONOURED = "honoured"
    PARTLY = "partly"
    WITHOUT_EFFECT = "without effect"  # accepted by dockerd on Linux, too, and ignored there
    REFUSED = "refused"  # for good, as by dockerd on Linux
    NOT_YET = "not yet"  # known to dockerd; refused here with 501


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`requests` must be refused: bodies of a create request for a property, query strings for a parameter, bodies for an operation."""

    status: Status
    note: str = ""
    requests: tuple[Any, ...] = ()


def without_effect(note: str) -> Entry:
    return Entry(status=Status.WITHOUT_EFFECT, note=note)


def not_yet(*requests: Any, note: str = "") -> Entry:
    return Entry(status=Status.NOT_YET, note=note, requests=requests)


def partly(note: str, *requests: Any) -> Entry:
    return Entry(status=Status.PARTLY, note=note, requests=requests)


def refused(note: str, *requests: Any) -> Entry:
    return Entry(status=Status.REFUSED, note=note, requests=requests)


def _host(**host_config: Any) -> dict[str, Any]:
    return {"HostConfig": host_config}


def _endpoint(**settings: Any) -> dict[str, Any]:
    return {"NetworkingConfig": {"EndpointsConfig": {"bridge": settings}}}


def _mount(**mount: Any) -> dict[str, Any]:
    return _host(Mounts=[{"Target": "/there", **mount}])


_WINDOWS = "Windows only"
_ANSWER = "an answer's property, ignored in a request"

# Operations that have a handler of their own and are refused all the same; the request that shows it.
OPERATIONS: dict[str, Entry] = {
    "POST /build/prune": partly("there is no builder, and so no build cache: nothing is removed"),
    "POST /networks/create": partly("bridge, macvlan and ipvlan; no swarm"),
    "POST /volumes/create": partly("the driver local and those of plug-ins on the host; no swarm"),
    "PUT /volumes/{name}": refused("Swarm's cluster volumes"),
}

# What Docker's API does not have.
OWN: dict[str, str] = {
    "POST /teul/system/check": "checks everything that is stored, and repairs it with `repair=1`: JSON lines, see [cli.md](cli.md)",
    "POST /teul/containers/{id}/ports": "publishes more ports of a container, or no longer some, while it runs or not: `teul port add`",
    "POST /teul/containers/{id}/mounts": "mounts more in a container, or no longer some of it, while it runs or not: `teul mount add`",
    "GET /teul/containers/{id}/network/explanation": "how packets get to a container and from it, and where they would be dropped: "
    "`teul network explain`",
    "GET /teul/containers/{id}/egress": "what a container may reach, and what it was refused: `teul network egress`",
    "POST /teul/containers/{id}/egress": "changes what a container may reach, while it runs or not",
    "GET /teul/networks/{id}/egress": "what the containers of a network may reach beyond it",
    "POST /teul/networks/{id}/egress": "changes that, while they run or not",
    "GET /teul/containers/outdated": "containers whose image reference means another image by now: `teul outdated`",
    "GET /teul/containers/{id}/generations": "the containers that had this one's name: `teul container history`",
    "POST /teul/containers/{id}/renew": "another container, of a newer image or with other options, takes its place: `teul renew`, see "
    "[renewal.md](renewal.md)",
    "POST /teul/containers/{id}/rollback": "the same, with what a former generation was: `teul rollback`",
    "GET /teul/images/layers": "which layers every image has, and what they take on the disk: `teul images --tree --layers`",
    "GET /teul/volumes/{name}/archive": "all that is in a volume, as a tar archive: `teul volume export`, see [volumes.md](volumes.md)",
    "POST /teul/volumes/{name}/archive": "unpacks a tar archive in an empty volume, or with `create=1` in a new one: `teul volume import`",
    "POST /teul/volumes/{name}/clone": "copies a volume into the one that `to` names, new or empty: `teul volume clone`",
    "POST /teul/images/blobs": "the blobs of the images that the body names, see [images.md](images.md)",
    "POST /teul/images/missing": "those of the blobs that the body names that are not stored here",
    "POST /teul/images/save": "as `GET /images/get`, without the blobs that the body names",
    "POST /teul/images/load": "as `POST /images/load`, and the archive may leave out blobs that are stored here",
}

# "METHOD /path?parameter"
PARAMETERS: dict[str, Entry] = {
    "POST /containers/{id}/start?detachKeys": without_effect("nothing is attached by a start"),
    "GET /images/json?all": without_effect("every image has a name or stands alone: there are no intermediate ones"),
    "GET /images/json?digests": without_effect("since 1.43 digests are always told"),
    "DELETE /images/{name}?noprune": without_effect("parents are never removed with a child"),
}

PROPERTIES: dict[str, dict[str, Entry]] = {
    "ContainerConfig": {
        "AttachStdin": without_effect("kept for inspection; what is attached is up to the attach request"),
        "AttachStdout": without_effect("see AttachStdin"),
        "AttachStderr": without_effect("see AttachStdin"),
        "ArgsEscaped": without_effect(_WINDOWS),
        "OnBuild": without_effect("for builds from an image that is made of the container"),
    },
    "Resources": {
        "DeviceRequests": partly(
            "those of CDI; no other driver is registered",
            _host(DeviceRequests=[{"Driver": "nvidia", "Count": 1, "Capabilities": [["gpu"]]}]),
        ),
        "KernelMemoryTCP": without_effect("dropped since API 1.42"),
        "CpuCount": without_effect(_WINDOWS),
        "CpuPercent": without_effect(f"{_WINDOWS}; a warning says that it is discarded"),
        "IOMaximumIOps": refused(_WINDOWS, _host(IOMaximumIOps=1)),
        "IOMaximumBandwidth": refused(_WINDOWS, _host(IOMaximumBandwidth=1)),
    },
    "HostConfig": {
        "Mounts": partly("bind, image, tmpfs and volume", _mount(Type="cluster", Source="x")),
        "ContainerIDFile": without_effect("written by the command line"),
        "LogConfig": partly("json-file, local, syslog, journald and none", _host(LogConfig={"Type": "gelf"})),
        "Cgroup": without_effect("a word that dockerd keeps and never reads"),
        "StorageOpt": refused("needs quotas, as in dockerd where the file system has none", _host(StorageOpt={"size": "1G"})),
        "UsernsMode": partly('"host" only: no user namespaces are mapped', _host(UsernsMode="private")),
        "Runtime": partly("Teul's own, by the names that dockerd gives its own, and those of --add-runtime", _host(Runtime="runsc")),
        "Isolation": partly('"default" only, as on any Linux', _host(Isolation="hyperv")),
    },
    "EndpointSettings": {
        "IPAMConfig": partly("see EndpointIPAMConfig"),
        "Links": without_effect("means something on networks of the user's only"),
        "Aliases": partly("on networks of the user's", _endpoint(Aliases=["other"])),
        **{
            name: without_effect(_ANSWER)
            for name in (
                *("NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address"),
                *("GlobalIPv6PrefixLen", "DNSNames"),
            )
        },
    },
    "EndpointIPAMConfig": {
        "IPv4Address": partly("on networks of the user's", _endpoint(IPAMConfig={"IPv4Address": "172.17.0.9"})),
        "IPv6Address": partly("on networks of the user's", _endpoint(IPAMConfig={"IPv6Address": "fd00::9"})),
    },
    "Mount": {
        "Consistency": without_effect("Docker Desktop on macOS only"),
    },
}
