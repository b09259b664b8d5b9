"""What a container that follows another one is asked for: what its user asked of the former one, with changes. Pure.

A container's record has what was asked for at its creation, from before the image's configuration was merged in. Of records from before
that was kept, what was asked for is what the image does not have: a value that both have is taken for the image's then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from teul.model.config import ContainerConfig, HealthConfig
from teul.model.container import Container
from teul.model.document import Empty
from teul.model.host_config import HostConfig
from teul.model.renewal import RenewRequest, Settings
from teul.oci.image_config import Healthcheck, ImageConfig
from teul.services.containers.request.mounts import clean_path, mounts_of, parse_bind

T = TypeVar("T")


def asked_of(container: Container, image: Callable[[], ImageConfig]) -> ContainerConfig:
    """The configuration as it was asked for. `image` gives that of the container's image; it is called for old records only."""
    return container.asked if container.asked is not None else difference(container, image())


def difference(container: Container, image: ImageConfig) -> ContainerConfig:
    """What of a container's configuration does not come from `image`, nor from its id: merged with `image` again, it is the same."""
    config = container.config
    asked = msgspec.structs.replace(config)
    if config.hostname == container.id[:12] or container.host_config.network_mode == "host":
        asked.hostname = ""
    asked.user = _other(config.user, image.user)
    published = container.host_config.port_bindings or {}
    asked.exposed_ports = _rest(
        config.exposed_ports, {port: each for port, each in (image.exposed_ports or {}).items() if port not in published}
    )
    asked.volumes = _rest(config.volumes, image.volumes)
    asked.env = [variable for variable in config.env or () if variable not in (image.env or ())] or None
    asked.labels = {name: value for name, value in (config.labels or {}).items() if (image.labels or {}).get(name) != value}
    if (config.entrypoint or None) == (image.entrypoint or None):
        asked.entrypoint = None
        asked.cmd = None if config.cmd == image.cmd else config.cmd
    elif not config.entrypoint:
        asked.entrypoint = [""]  # the image's was taken away
    asked.healthcheck = _other_health(config.healthcheck, image.healthcheck)
    asked.working_dir = _other(config.working_dir, image.working_dir)
    asked.stop_signal = _other(config.stop_signal, image.stop_signal)
    asked.shell = None if config.shell == image.shell else config.shell
    return asked


def settings_of(container: Container, image: Callable[[], ImageConfig]) -> Settings:
    """All that it takes to make this container again."""
    descriptor = container.image_manifest or {}
    return Settings(
        config=asked_of(container, image),
        host_config=container.host_config,
        attachments=container.wanted_networks,
        mounts=[msgspec.structs.replace(mount) for mount in mounts_of(container)],
        manifest_digest=str(descriptor.get("digest", "")),
    )


def changed(settings: Settings, request: RenewRequest) -> Settings:
    """The settings with what `request` wants otherwise. Nothing that is given is changed. Raises InvalidParameter."""
    config = msgspec.structs.replace(settings.config)
    host_config = msgspec.structs.replace(settings.host_config)
    if request.env:
        named = {variable.partition("=")[0]: variable for variable in [*(config.env or ()), *request.env]}
        config.env = list(named.values())
    if request.exposed_ports or request.port_bindings:
        exposed = {port: Empty() for port in request.port_bindings or ()} | (request.exposed_ports or {})
        config.exposed_ports = {**(config.exposed_ports or {}), **exposed}
    if request.port_bindings:
        host_config.port_bindings = {**(host_config.port_bindings or {}), **request.port_bindings}
    places = {parse_bind(bind).destination for bind in request.binds or ()} | {clean_path(place) for place in request.volumes or ()}
    if places:
        kept = [bind for bind in host_config.binds or () if parse_bind(bind).destination not in places]
        host_config.binds = [*kept, *(request.binds or ())] or None
        host_config.mounts = [mount for mount in host_config.mounts or () if clean_path(mount.target) not in places] or None
        tmpfs = host_config.tmpfs or {}
        host_config.tmpfs = {place: options for place, options in tmpfs.items() if clean_path(place) not in places} or None
        volumes = {place: each for place, each in (config.volumes or {}).items() if clean_path(place) not in places}
        config.volumes = volumes | (request.volumes or {}) or None
    return msgspec.structs.replace(
        settings,
        config=config,
        host_config=host_config,
        mounts=[mount for mount in settings.mounts if mount.destination not in places],
    )


def describe_changes(request: RenewRequest) -> list[str]:
    """A word about everything that `request` wants otherwise, but for the image. Values of variables are not told: they may be secret."""
    return [
        *(f"env {variable.partition('=')[0]}" for variable in request.env or ()),
        *(f"port {port}" for port in request.port_bindings or ()),
        *(f"volume {parse_bind(bind).destination}" for bind in request.binds or ()),
        *(f"volume {clean_path(place)}" for place in request.volumes or ()),
    ]


def needed_by(container: Container, others: Sequence[Container]) -> Container | None:
    """One of `others` that holds on to this very container, by its id, and could not start without it; None if there is none."""
    by_mode = f"container:{container.id}"
    for other in others:
        modes = (other.host_config.network_mode, other.host_config.pid_mode, other.host_config.ipc_mode)
        if other.id != container.id and (by_mode in modes or any(linked.id == container.id for linked in other.links.values())):
            return other
    return None


def _other(own: str, inherited: str) -> str:
    return "" if own == inherited else own


def _rest(own: Mapping[str, Empty] | None, inherited: Mapping[str, object] | None) -> dict[str, Empty] | None:
    return {name: value for name, value in (own or {}).items() if name not in (inherited or {})} or None


def _other_health(own: HealthConfig | None, inherited: Healthcheck | None) -> HealthConfig | None:
    """Only what differs: what is left empty is inherited again."""
    if own is None or inherited is None:
        return own
    different = HealthConfig(
        test=_unless(own.test, inherited.test),
        interval=_unless(own.interval, inherited.interval_ns) or 0,
        timeout=_unless(own.timeout, inherited.timeout_ns) or 0,
        start_period=_unless(own.start_period, inherited.start_period_ns) or 0,
        start_interval=_unless(own.start_interval, inherited.start_interval_ns) or 0,
        retries=_unless(own.retries, inherited.retries) or 0,
    )
    return None if different == HealthConfig() else different


def _unless(own: T, inherited: object) -> T | None:
    return None if own == inherited else own


def without_auto_remove(host_config: HostConfig) -> HostConfig:
    """For a container that is kept when it has ended."""
    return msgspec.structs.replace(host_config, auto_remove=False)
