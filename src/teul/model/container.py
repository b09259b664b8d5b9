"""The record of a container: what the database keeps, one JSON document each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from teul.model.config import ContainerConfig
from teul.model.health import NO_HEALTH, Health
from teul.model.host_config import HostConfig
from teul.model.lifecycle import ContainerState
from teul.model.mount import MountPoint, PlannedMount
from teul.model.network import BRIDGE
from teul.model.network_config import EndpointSettings, NetworkingConfig
from teul.model.renewal import Generation, Replacing


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a running container that is published: where it really is on the host. `host_address` may be 0.0.0.0 or ::, for all."""

    container_port: int
    protocol: str
    host_address: str
    host_port: int


class ContainerEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A running container's attachment to a network: addresses without their prefix lengths, which stand apart; "" where there is none.

    `interface` is its name inside, `host_interface` that of the other end, "" if that is not on the host. `ports` are the container's ports
    that are published by it. With `is_routed` the interface itself leads out, without a gateway.
    """

    network_name: str
    network_id: str
    endpoint_id: str
    ipv4: str = ""
    ipv4_prefix: int = 0
    gateway: str = ""
    mac: str = ""
    ipv6: str = ""
    ipv6_prefix: int = 0
    gateway6: str = ""
    host_interface: str = ""
    interface: str = ""
    ports: tuple[PublishedPort, ...] = ()
    is_routed: bool = False

    def leads_out(self, version: int) -> bool:
        """Whether it is a way to the rest of the world for this IP version."""
        gateway, address = (self.gateway, self.ipv4) if version == 4 else (self.gateway6, self.ipv6)
        return bool(gateway or (self.is_routed and address))


class LinkedContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container that another one is linked to on the default bridge; its name is what is told of it when it is gone."""

    id: str
    name: str


class Container(msgspec.Struct, kw_only=True):
    """One container.

    `name` has no slash. `path` and `args` are what PID 1 executes. `config` and `host_config` are complete: the image's
    configuration is merged in and Docker's defaults are filled. `attachments` are the networks that it is to be on, by name; None in
    records from before there were several. `planned` are its mounts, and `mounts` what inspection shows of them; `planned` is None in
    records from before there were volumes, whose mounts follow from `host_config`. `endpoints` are what it has of the networks, by the
    network's name and in the order of the container's interfaces, and empty while the container does not run. `image_reference` is what the
    client wrote, `image_manifest` the descriptor of the image's manifest for the container's platform (OCI image-spec descriptor.md), None
    in records from before there was a choice. `state` is replaced as a whole, by the functions of `model.lifecycle`, `health` by those of
    `model.health`; `health` is None as long as nothing was ever probed. `manually_stopped` keeps `unless-stopped` from starting the
    container again. `links` are those that it has on the default bridge, by alias. `asked` is the configuration as the client sent it,
    before the image's was merged in; None in records from before it was kept. `replacing` stands in the record of a container that is about
    to take another one's place, and `successor_id` in that of the other one. `generations` are the containers that had its name, oldest
    first; empty before the first renewal.
    """

    id: str
    name: str
    created_at_ns: int
    image_id: str
    image_reference: str
    path: str
    args: list[str]
    config: ContainerConfig
    host_config: HostConfig
    networking: NetworkingConfig | None = None
    state: ContainerState = ContainerState()
    restart_count: int = 0
    driver: str = "overlay2"
    platform: str = "linux"
    mounts: list[MountPoint] = msgspec.field(default_factory=list)
    planned: list[PlannedMount] | None = None
    attachments: dict[str, EndpointSettings] | None = None
    endpoints: dict[str, ContainerEndpoint] = msgspec.field(default_factory=dict)
    manually_stopped: bool = False
    health: Health | None = None
    image_manifest: dict[str, Any] | None = None
    links: dict[str, LinkedContainer] = msgspec.field(default_factory=dict)
    asked: ContainerConfig | None = None
    replacing: Replacing | None = None
    successor_id: str = ""
    generations: list[Generation] = msgspec.field(default_factory=list)

    @property
    def is_being_renewed(self) -> bool:
        """Whether it takes another one's place, or another one takes its: then it is not decided yet which of them goes."""
        return self.replacing is not None or bool(self.successor_id)

    @property
    def image_ids(self) -> list[str]:
        """The images that it uses: the one that it stands on, those among its mounts, and those of generations to go back to."""
        mounted = [mount.image_id for mount in self.planned or () if mount.image_id]
        return [self.image_id, *mounted, *(each.image_id for each in self.generations if each.settings is not None)]

    def manifests_of(self, image_id: str) -> list[str]:
        """The digests of the manifests of this image that the container uses, as far as its record says."""
        own = [self.image_manifest["digest"]] if self.image_id == image_id and self.image_manifest is not None else []
        return [*own, *(mount.image_manifest for mount in self.planned or () if mount.image_id == image_id)]

    @property
    def wanted_networks(self) -> dict[str, EndpointSettings]:
        """The networks that the container is on when it runs, by name, with what was asked of each."""
        if self.attachments is not None:
            return self.attachments
        mode = self.host_config.network_mode
        if self.config.network_disabled or mode.startswith("container:"):
            return {}
        asked = (self.networking.endpoints_config if self.networking else None) or {}
        name = BRIDGE if mode in ("", "default") else mode
        return {name: asked.get(name) or EndpointSettings()}

    @property
    def gateway_endpoint(self) -> ContainerEndpoint | None:
        """The attachment by which the container reaches the outside: the first with a gateway, else the first; None without any."""
        candidates = self.endpoints.values()
        return next((endpoint for endpoint in candidates if endpoint.leads_out(4) or endpoint.leads_out(6)), next(iter(candidates), None))

    @property
    def health_status(self) -> str:
        """starting, healthy, unhealthy or none."""
        return NO_HEALTH if self.health is None else self.health.status

    def encode(self) -> bytes:
        """The record as JSON, for the database."""
        return _ENCODER.encode(self)

    @staticmethod
    def decode(record: bytes | str) -> Container:
        """The inverse of `encode`."""
        return _DECODER.decode(record)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Container)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateContainer:
    """A request to create a container, before it was checked and completed.

    `shallow_read_only`: of a bind that is to be read-only, what is mounted below it is not, unless the bind says so itself.
    """

    name: str | None
    config: ContainerConfig
    host_config: HostConfig
    networking: NetworkingConfig | None = None
    platform: str | None = None
    shallow_read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedContainer:
    """The answer to `CreateContainer`: the id, and what the user should know about the request."""

    id: str
    warnings: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerExit:
    """How a wait ended. `error` is set when the container's end could not be learned (or its removal failed)."""

    status_code: int
    error: str | None = None
