"""Networks and a container's attachments to them, in Docker's words.

Source: API v1.51, NetworkCreateRequest, NetworkingConfig, EndpointSettings.
"""

from __future__ import annotations

from typing import ClassVar

from teul.model.document import Document


class EndpointIPAMConfig(Document):
    """The addresses a client asks for."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"ipv4_address", "ipv6_address", "link_local_ips"})

    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] | None = None


class EndpointSettings(Document):
    """One attachment: what the client asked for, and in responses what the container got."""

    ipam_config: EndpointIPAMConfig | None = None
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = ""
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    ip_prefix_length: int = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_length: int = 0
    dns_names: list[str] | None = None


class NetworkingConfig(Document):
    """The networks a new container is attached to, by name."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class IpamConfig(Document):
    """One subnet of a network to be made: CIDR blocks and addresses as text, "" where the engine is to choose."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IpamRequest(Document):
    """How a network to be made manages its addresses."""

    driver: str = ""
    options: dict[str, str] | None = None
    config: list[IpamConfig] | None = None


class ConfigReference(Document):
    """The network whose configuration another takes over."""

    network: str = ""


class CreateNetwork(Document):
    """POST /networks/create. docker: `CheckDuplicate` is read by no engine any more; names are unique. `Egress` is Teul's own."""

    STRING_OR_LIST: ClassVar[frozenset[str]] = frozenset({"egress"})

    name: str = ""
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    ipam: IpamRequest | None = None
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    egress: list[str] | None = None


class ConnectRequest(Document):
    """POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class DisconnectRequest(Document):
    """POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False
