"""What a handler may reach: the services, under one key of the application."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web

from teul import __version__
from teul.services.containers.commits import Commits
from teul.services.containers.connections import Connections
from teul.services.containers.egress import EgressEdits
from teul.services.containers.execs import Execs
from teul.services.containers.explanations import Explanations
from teul.services.containers.filesystem import Filesystems
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.mount_edits import MountEdits
from teul.services.containers.ports import PortEdits
from teul.services.containers.pruning import ContainerPruning
from teul.services.containers.renewal import Renewals
from teul.services.containers.resources import ContainerResources
from teul.services.containers.service import Containers
from teul.services.events import Events
from teul.services.images.archives import ImageArchives
from teul.services.images.check import ImageCheck
from teul.services.images.measuring import ImageTrees
from teul.services.images.moving import ImageMoves
from teul.services.images.pull import ImagePuller
from teul.services.images.push import ImagePusher
from teul.services.images.registries import RemoteRegistries
from teul.services.images.remove import ImageRemover
from teul.services.images.service import Images
from teul.services.networks.service import Networks
from teul.services.system import API_VERSION as NEWEST_VERSION
from teul.services.system import System, render_version
from teul.services.volumes.archives import VolumeArchives
from teul.services.volumes.service import Volumes


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases, by noun."""

    containers: Containers
    lifecycle: Lifecycle
    filesystems: Filesystems
    commits: Commits
    container_pruning: ContainerPruning
    execs: Execs
    images: Images
    image_archives: ImageArchives
    image_moves: ImageMoves
    image_trees: ImageTrees
    image_remover: ImageRemover
    image_puller: ImagePuller
    image_check: ImageCheck
    image_pusher: ImagePusher
    registries: RemoteRegistries
    networks: Networks
    volumes: Volumes
    volume_archives: VolumeArchives
    connections: Connections
    events: Events
    system: System
    port_edits: PortEdits
    mount_edits: MountEdits
    explanations: Explanations
    egress_edits: EgressEdits
    resources: ContainerResources
    renewals: Renewals


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)

# Sent with every response, hijacked ones included.
HEADERS = {
    "Api-Version": render_version(NEWEST_VERSION),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Teul/{__version__} (linux)",
}

# Among the path's variables: the API version that the client speaks, `1.51`.
VERSION_VARIABLE = "version"


def services(request: web.Request) -> Services:
    """The services that serve this request."""
    return request.app[SERVICES]


def api_version(request: web.Request) -> tuple[int, int]:
    """The version in the request's path, the newest one if it had none."""
    return _parse(request.match_info[VERSION_VARIABLE])


@lru_cache(maxsize=64)
def _parse(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)
