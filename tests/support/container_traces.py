"""What a container has on the host beside its processes, found by its id: other engines have theirs there at the same time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from teul.network.endpoints import host_interface_prefix


def links_of(containers: Sequence[str]) -> list[str]:
    """The host's ends of the containers' links, wherever they hang."""
    prefixes = tuple(host_interface_prefix(container) for container in containers)
    return [name for name in os.listdir("/sys/class/net") if name.startswith(prefixes)]


def cgroups_of(container: str) -> list[str]:
    """Its cgroups, in every hierarchy. Those of others may go while it looks."""
    return [directory for directory, _, _ in os.walk("/sys/fs/cgroup") if container in os.path.basename(directory)]
