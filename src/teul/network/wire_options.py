"""Driver options of a macvlan or ipvlan network, from Docker's words to values. Pure.

Source: moby daemon/libnetwork/drivers/macvlan/macvlan_network.go, ipvlan/ipvlan_network.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from teul.errors import NotImplementedHere, System
from teul.network.options import DOCKER_PREFIX, ENABLE_IPV4, ENABLE_IPV6, MTU, parse_mtu
from teul.network.wire import Kind

PARENT = "parent"
_MODE, _FLAG = {"macvlan": "macvlan_mode", "ipvlan": "ipvlan_mode"}, "ipvlan_flag"
# The first of each is the default.
_MODES: dict[Kind, tuple[str, ...]] = {"macvlan": ("bridge", "private", "passthru", "vepa"), "ipvlan": ("l2", "l3", "l3s")}
_FLAGS = ("bridge", "private", "vepa")
_KNOWN = frozenset((MTU, ENABLE_IPV4, ENABLE_IPV6))


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOptions:
    """What the options mean. `parent` is "" where none is given; `flag` is "" but for ipvlan."""

    parent: str
    mode: str
    flag: str = ""
    mtu: int = 0


def parse_wire_options(kind: Kind, options: Mapping[str, str]) -> WireOptions:
    """Raises as Docker does, and NotImplementedHere for an option of Docker's bridges.

    docker: what is not the driver's own is only kept, for whoever reads it out of the network's record.
    """
    for name in options:
        if name.startswith(DOCKER_PREFIX) and name not in _KNOWN:
            raise NotImplementedHere(f"network option {name} is not supported by driver {kind}")
    mode = options.get(_MODE[kind], "") or _MODES[kind][0]
    if mode not in _MODES[kind]:
        default = _MODES[kind][0]
        raise System(f"requested {kind} mode '{mode}' is not valid, '{default}' mode is the {kind} driver default")
    flag = (options.get(_FLAG, "") or _FLAGS[0]) if kind == "ipvlan" else ""
    if kind == "ipvlan" and flag not in _FLAGS:
        raise System(f"requested ipvlan flag '{flag}' is not valid, '{_FLAGS[0]}' is the ipvlan driver default")
    parent = options.get(PARENT, "")
    if parent == "lo":
        raise System(f"loopback interface is not a valid {kind} parent link")
    return WireOptions(parent=parent, mode=mode, flag=flag, mtu=parse_mtu(options.get(MTU, "")))
