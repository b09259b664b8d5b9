"""How a container follows another one of the same name: what is recorded while it happens, and what is known of those before."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from teul.model.config import ContainerConfig
from teul.model.document import Document, Empty
from teul.model.host_config import HostConfig, PortBinding
from teul.model.mount import PlannedMount
from teul.model.network_config import EndpointSettings

KEEP_LABEL = "io.teul.keep-generations"
"""The label that says how many former generations of a container can be gone back to."""
MOST_GENERATIONS = 20
"""So many are remembered, those that cannot be gone back to included."""


class Replacing(msgspec.Struct, frozen=True, kw_only=True):
    """In the record of a container that is to take another one's place, until it is known to be good.

    `name` is what both want to be called, and `aside` what the one is called that is not: the successor first, then its predecessor.
    """

    predecessor_id: str
    name: str
    aside: str
    was_running: bool


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that it takes to make a container again: what was asked for, and the mounts that came of it. `platform` is "" for the host's."""

    config: ContainerConfig
    host_config: HostConfig
    attachments: dict[str, EndpointSettings]
    mounts: list[PlannedMount]
    manifest_digest: str = ""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One container of a name, or one that was to be. `changes` are words about what it has other than the one before.

    `result` is "" for the present one, else what became of it. `settings` are there as long as it can be gone back to.
    """

    number: int
    container_id: str
    image_id: str
    image_reference: str
    began_at_ns: int
    changes: tuple[str, ...] = ()
    result: str = ""
    settings: Settings | None = None


class RenewRequest(Document):
    """POST /teul/containers/{id}/renew: what the new container is to have other than the old one; what is not said stays.

    `image` "" is what the container's own reference means by now. A port, a variable or a place among the changes takes the place of
    the one that there was.
    """

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset()

    image: str = ""
    env: list[str] | None = None
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    exposed_ports: dict[str, Empty] | None = None
    binds: list[str] | None = None
    volumes: dict[str, Empty] | None = None
    timeout: int = 0
    keep: bool = False
    force: bool = False
