"""A container's attachment to networks, in Docker's words (API v1.51 NetworkingConfig and EndpointSettings)."""

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
