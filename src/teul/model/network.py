"""The record of a network, and one container's attachment to a network as inspection shows it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

BRIDGE, HOST, NONE = "bridge", "host", "none"
PREDEFINED = (BRIDGE, HOST, NONE)
"""Networks that every engine has, and nobody may make or remove."""
WIRE_DRIVERS = ("macvlan", "ipvlan")
"""Drivers whose networks have no bridge: containers are on the wire of one of the host's interfaces."""


class AddressRange(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet that a network hands addresses out of. `ip_range` narrows what is handed out; `auxiliary` are addresses to leave alone."""

    subnet: str
    gateway: str = ""
    ip_range: str = ""
    auxiliary: dict[str, str] = msgspec.field(default_factory=dict)


class Ipam(msgspec.Struct, frozen=True, kw_only=True):
    """How a network manages its addresses. `ranges` is None where it has none to manage."""

    driver: str = "default"
    options: dict[str, str] | None = None
    ranges: list[AddressRange] | None = None


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """One network. `driver` is Docker's name: bridge, macvlan, ipvlan, host, null (for `none`). `egress`: see `model.egress`."""

    id: str
    name: str
    created_at_ns: int
    driver: str
    scope: str = "local"
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    ipam: Ipam = Ipam()
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: str = ""
    config_only: bool = False
    options: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    egress: list[str] | None = None

    @property
    def is_predefined(self) -> bool:
        """Whether it is one of the networks that every engine has."""
        return self.name in PREDEFINED

    @property
    def has_links(self) -> bool:
        """Whether its containers get a link, and addresses that the engine keeps account of."""
        return self.driver == "bridge" or self.is_wire

    @property
    def is_wire(self) -> bool:
        """Whether it is of a driver without a bridge."""
        return self.driver in WIRE_DRIVERS

    @property
    def is_closed(self) -> bool:
        """Whether nothing leads out of it: as was asked, or since the wire that it is on goes nowhere."""
        return self.internal or (self.is_wire and not self.options.get("parent"))

    def encode(self) -> bytes:
        """The record as JSON, for the database."""
        return _ENCODER.encode(self)

    @staticmethod
    def decode(record: bytes | str) -> Network:
        """The inverse of `encode`."""
        return _DECODER.decode(record)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Network)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A running container on a network, as `network inspect` shows it; addresses with prefix length, "" where there is none."""

    container_id: str
    container_name: str
    endpoint_id: str
    mac: str = ""
    ipv4: str = ""
    ipv6: str = ""
