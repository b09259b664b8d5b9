"""The use cases that clients ask for, made of what an engine consists of."""

from __future__ import annotations

from dataclasses import dataclass

from teul.api.http.context import Services
from teul.network.names import names_for_root
from teul.oci.digest import Digest
from teul.services.containers.commits import Commits
from teul.services.containers.connections import Connections
from teul.services.containers.egress import EgressEdits
from teul.services.containers.execs import Execs
from teul.services.containers.explanations import Explanations
from teul.services.containers.filesystem import Filesystems
from teul.services.containers.launch import Launcher
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.links import Links
from teul.services.containers.mount_edits import MountEdits
from teul.services.containers.names import Names
from teul.services.containers.network_files import NetworkFiles
from teul.services.containers.ports import PortEdits
from teul.services.containers.pruning import ContainerPruning
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.renewal import Renewals
from teul.services.containers.resources import ContainerResources
from teul.services.containers.run import Runs
from teul.services.containers.service import Containers
from teul.services.containers.volumes import ContainerVolumes
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
from teul.services.images.store import ImageStore
from teul.services.networks.service import Networks
from teul.services.system import System
from teul.services.usage import Usage
from teul.services.volumes.archives import VolumeArchives
from teul.services.volumes.service import Volumes


@dataclass(frozen=True, slots=True)
class Registries:
    """What has to do with registries."""

    puller: ImagePuller
    pusher: ImagePusher
    registries: RemoteRegistries


@dataclass(frozen=True, slots=True)
class Core:
    """What the use cases are made of."""

    registry: ContainerRegistry
    runs: Runs
    launcher: Launcher
    lifecycle: Lifecycle
    containers: Containers
    execs: Execs
    images: Images
    networks: Networks
    volumes: Volumes
    container_volumes: ContainerVolumes
    files: NetworkFiles
    links: Links
    names: Names
    events: Events
    renewals: Renewals

    def services(self, store: ImageStore, usage: Usage[Digest], registries: Registries, system: System) -> Services:
        """The use cases, for those who ask by HTTP."""
        registry, runs, launcher, networks, events = self.registry, self.runs, self.launcher, self.networks, self.events
        images, lifecycle, files, names = self.images, self.lifecycle, self.files, self.names
        archives, root = ImageArchives(store, events), system.facts.root
        return Services(
            containers=self.containers,
            lifecycle=lifecycle,
            filesystems=Filesystems(registry, runs, launcher, images, events),
            commits=Commits(registry, runs, lifecycle=lifecycle, launcher=launcher, images=images, archives=archives, events=events),
            container_pruning=ContainerPruning(registry, self.containers, lifecycle, events),
            execs=self.execs,
            images=images,
            image_archives=archives,
            image_moves=ImageMoves(store),
            image_trees=ImageTrees(store),
            image_remover=ImageRemover(store, events, usage),
            image_puller=registries.puller,
            image_check=ImageCheck(store),
            image_pusher=registries.pusher,
            registries=registries.registries,
            networks=networks,
            volumes=self.volumes,
            volume_archives=VolumeArchives(self.volumes, f"{root}/tmp"),
            connections=Connections(registry, runs, networks, files=files, names=names, links=self.links, events=events),
            events=events,
            system=system,
            port_edits=PortEdits(registry, runs, networks),
            mount_edits=MountEdits(registry, runs, launcher, images, self.container_volumes),
            egress_edits=EgressEdits(registry, runs, networks, files=files, names=names, events=events),
            explanations=Explanations(registry, runs, networks, names_for_root(root)),
            resources=ContainerResources(registry, runs, launcher, events),
            renewals=self.renewals,
        )
