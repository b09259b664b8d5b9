"""One thing that happened in the engine, as `docker events` tells it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """`type` is the actor's noun ("container", "image", "network", …), `action` the verb ("create", "exec_start: sh", …).

    `attributes` of a container are its image, its name and its labels, and what belongs to the action (exitCode, signal, …).
    """

    type: str
    action: str
    actor_id: str
    attributes: dict[str, str] = field(default_factory=dict)
    time_ns: int = field(default_factory=time.time_ns)
