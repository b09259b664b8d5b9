"""Bridges as tests want them: by the subnets."""

from __future__ import annotations

import ipaddress
from typing import Any

from teul.network.bridge import Bridge, Segment


def make_bridge(name: str, *subnets: str, is_internal: bool = False, **members: Any) -> Bridge:
    """A bridge that has the first address of each subnet, by which its containers route unless it is internal."""
    networks = [ipaddress.ip_network(subnet) for subnet in subnets]
    segments = tuple(
        Segment(subnet=subnet, gateway=None if is_internal else subnet.network_address + 1, host_address=subnet.network_address + 1)
        for subnet in networks
    )
    return Bridge(name=name, segments=segments, is_internal=is_internal, **members)
