"""Names of an engine's bridge, table and chain on the host: engines with different roots never touch each other's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

DEFAULT_ROOT = "/var/lib/teul"


@dataclass(frozen=True, slots=True)
class HostNames:
    """`bridge` is the default network's device; `table` the nftables table; `chain` the engine's chain in the host's iptables."""

    bridge: str
    table: str
    chain: str


def names_for_root(root: str) -> HostNames:
    """The names that go with a root directory (absolute, symbolic links resolved)."""
    if root == DEFAULT_ROOT:
        return HostNames(bridge="teul0", table="teul", chain="TEUL")
    digest = hashlib.sha256(root.encode()).hexdigest()
    return HostNames(bridge=f"teul-{digest[:6]}", table=f"teul_{digest[:8]}", chain=f"TEUL-{digest[:8]}")
