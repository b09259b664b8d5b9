"""What older clients expect to be different.

Services know the newest shape only. A step belongs to the version that introduced something: requests of older clients go through the
step on their way in, responses on their way out, newest step first. Source: moby daemon/server/router, docs/api/version-history.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig
from teul.model.host_config import HostConfig
from teul.model.network_config import EndpointSettings, NetworkingConfig

Version = tuple[int, int]
Document = dict[str, Any]

_MAC_DEPRECATED = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."


def adapt(shape: str, version: Version, document: Document) -> Document:
    """`document` (changed in place) as a client of `version` expects it."""
    for introduced, step in _RESPONSES.get(shape, ()):
        if version < introduced:
            step(document)
    return document


def adapt_create(version: Version, config: ContainerConfig, host_config: HostConfig, networking: NetworkingConfig) -> list[str]:
    """Bring a create request of `version` to the newest shape, in place; returns warnings. Raises InvalidParameter."""
    endpoints = networking.endpoints_config if networking.endpoints_config is not None else {}
    networking.endpoints_config = endpoints
    for introduced, step in _CREATE:
        if version < introduced:
            step(config, host_config, endpoints)
    _check_mounts(version, host_config)
    return _move_mac_address(version, config, host_config, endpoints)


def _without(key: str, *, inside: str | None = None) -> Callable[[Document], None]:
    def step(document: Document) -> None:
        (document if inside is None else document[inside]).pop(key, None)

    return step


def _short_id_among_aliases(document: Document) -> None:
    """Before 1.45 a container's short id and hostname were told as aliases on networks that users made."""
    own = [document["Id"][:12], document["Config"]["Hostname"]]
    for name, endpoint in document["NetworkSettings"]["Networks"].items():
        if name not in ("bridge", "host", "none"):
            endpoint["Aliases"] = list(dict.fromkeys([*(endpoint["Aliases"] or ()), *own]))


def _plain_runtimes(document: Document) -> None:
    for runtime in document["Runtimes"].values():
        runtime.pop("status", None)


def _expected_commits(document: Document) -> None:
    for key in ("ContainerdCommit", "RuncCommit", "InitCommit"):
        document[key]["Expected"] = document[key]["ID"]


def _bridge_filtering(document: Document) -> None:
    document |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}


def _nondistributable(document: Document) -> None:
    document["RegistryConfig"] |= {"AllowNondistributableArtifactsCIDRs": None, "AllowNondistributableArtifactsHostnames": None}


_RESPONSES: dict[str, tuple[tuple[Version, Callable[[Document], None]], ...]] = {
    "container summary": (((1, 46), _without("Annotations", inside="HostConfig")),),
    "container inspection": (
        ((1, 45), _short_id_among_aliases),
        ((1, 43), _without("Annotations", inside="HostConfig")),
    ),
    "info": (
        ((1, 50), _bridge_filtering),
        ((1, 49), _without("FirewallBackend")),
        ((1, 49), _expected_commits),
        ((1, 47), _nondistributable),
        ((1, 46), _without("Containerd")),
        ((1, 44), _plain_runtimes),
    ),
}

Endpoints = dict[str, EndpointSettings | None]


def _equal_priorities(_: ContainerConfig, host_config: HostConfig, endpoints: Endpoints) -> None:
    for endpoint in endpoints.values():
        if endpoint is not None:
            endpoint.gw_priority = 0
    if any(mount.type == "image" for mount in host_config.mounts or ()):
        raise InvalidParameter('Mount type "Image" needs API v1.48 or newer')


def _no_subpath(_: ContainerConfig, host_config: HostConfig, __: Endpoints) -> None:
    if any(mount.volume_options and mount.volume_options.subpath for mount in host_config.mounts or ()):
        raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")


def _one_endpoint_with_the_mac(config: ContainerConfig, host_config: HostConfig, endpoints: Endpoints) -> None:
    """Before 1.44: one network, no start interval, and the MAC address belongs to the container."""
    if config.healthcheck is not None:
        config.healthcheck.start_interval = 0
    for mount in host_config.mounts or ():
        if mount.bind_options and mount.bind_options.read_only_force_recursive:
            raise InvalidParameter("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if len(endpoints) > 1:
        raise InvalidParameter(f"Container cannot be created with multiple network endpoints: {', '.join(endpoints)}")
    if config.mac_address and not _has_own_network(host_config):
        raise InvalidParameter("conflicting options: mac-address and the network mode")
    for endpoint in endpoints.values():
        if endpoint is not None:
            endpoint.mac_address = ""


def _no_annotations(_: ContainerConfig, host_config: HostConfig, __: Endpoints) -> None:
    host_config.annotations = None


def _lenient_mounts(_: ContainerConfig, host_config: HostConfig, __: Endpoints) -> None:
    """Before 1.42 options of another mount type were ignored, missing bind sources refused, and the console's size not told."""
    host_config.console_size = (0, 0)
    for mount in host_config.mounts or ():
        if mount.type != "volume":
            mount.volume_options = None
        if mount.type != "tmpfs":
            mount.tmpfs_options = None
        if mount.bind_options is not None:
            mount.bind_options.create_mountpoint = False


def _recursive_and_shareable(_: ContainerConfig, host_config: HostConfig, __: Endpoints) -> None:
    for mount in host_config.mounts or ():
        if mount.bind_options is not None:
            mount.bind_options.non_recursive = False
    host_config.ipc_mode = host_config.ipc_mode or "shareable"


_CREATE: tuple[tuple[Version, Callable[[ContainerConfig, HostConfig, Endpoints], None]], ...] = (
    ((1, 48), _equal_priorities),
    ((1, 45), _no_subpath),
    ((1, 44), _one_endpoint_with_the_mac),
    ((1, 43), _no_annotations),
    ((1, 42), _lenient_mounts),
    ((1, 40), _recursive_and_shareable),
)


def _check_mounts(version: Version, host_config: HostConfig) -> None:
    if version < (1, 42):
        return
    for mount in host_config.mounts or ():
        for name, options, kind in (
            ("VolumeOptions", mount.volume_options, "volume"),
            ("BindOptions", mount.bind_options, "bind"),
            ("TmpfsOptions", mount.tmpfs_options, "tmpfs"),
        ):
            if options is not None and mount.type != kind:
                raise InvalidParameter(f'{name} must not be specified on mount type "{mount.type}"')


def _has_own_network(host_config: HostConfig) -> bool:
    mode = host_config.network_mode
    return mode not in ("none", "host") and not mode.startswith("container:")


def _network_name(host_config: HostConfig) -> str:
    mode = host_config.network_mode
    return "bridge" if mode in ("", "default") else mode


def _move_mac_address(version: Version, config: ContainerConfig, host_config: HostConfig, endpoints: Endpoints) -> list[str]:
    """A MAC address belongs to an endpoint; a container-wide MAC address is still taken, since 1.44 with a warning."""
    if not config.mac_address:
        return []
    if _has_own_network(host_config):
        name = _network_name(host_config)
        if not endpoints:
            endpoints[name] = EndpointSettings()
        # docker: before 1.44 there was but one network, whatever it was called.
        endpoint = next(iter(endpoints.values())) if version < (1, 44) else endpoints.get(name)
        if endpoint is None:
            raise InvalidParameter(
                "unable to migrate container-wide MAC address to a specific network: "
                "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks"
            )
        if endpoint.mac_address and endpoint.mac_address != config.mac_address:
            raise InvalidParameter(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"
            )
        endpoint.mac_address = config.mac_address
    return [] if version < (1, 44) else [_MAC_DEPRECATED]
