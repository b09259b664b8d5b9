"""How packets get to a container and from it, step by step: documents of Teul's own API.

Every text in them is for people. What a program may rely on are `Step.action`, `Verdict.result` and `Path.direction`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from teul.model.document import Document

Action = Literal["passes", "translated", "unsure", "dropped", "refused"]
"""What becomes of the packet at a step. After `dropped` and `refused` there is no further step; `unsure`: it passes, or is dropped."""
Result = Literal["reaches", "unsure", "dropped", "refused"]


class Step(Document):
    """One who looks at the packet: `where` is an interface, a chain or a process; `evidence` are rules, elements, routes that say so."""

    where: str
    what: str
    action: Action = "passes"
    evidence: list[str] = msgspec.field(default_factory=list)


class Verdict(Document):
    """What becomes of the packet. `step` (from 1 on) is the one that decides, 0 if it reaches; `remedy` is "" where none is obvious."""

    result: Result
    step: int = 0
    reason: str = ""
    remedy: str = ""


class Path(Document):
    """One packet's way, the first of its connection. `port` is the one that it is sent to, 0 for any."""

    source: str
    destination: str
    direction: Literal["in", "out"]
    ip_version: int
    protocol: str
    port: int
    steps: list[Step]
    verdict: Verdict


class NetworkSide(Document):
    """A network that the container is on. `way_out` are the IP versions whose default route leads by it."""

    name: str
    driver: str
    internal: bool = False
    bridge: str = ""
    host_interface: str = ""
    interface: str = ""
    mac_address: str = ""
    addresses: list[str] = msgspec.field(default_factory=list)
    gateways: list[str] = msgspec.field(default_factory=list)
    way_out: list[int] = msgspec.field(default_factory=list)


class Explanation(Document):
    """How a container is connected. `names` says how names are resolved; `notes` what else is worth knowing."""

    id: str
    name: str
    running: bool
    networks: list[NetworkSide]
    names: list[str]
    paths: list[Path]
    notes: list[str]
