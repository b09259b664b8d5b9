"""What the engine's networks are on the host, taken together: the bridge, the nftables table, the chain in iptables.

Every method blocks and raises `OSError`. Nothing here remembers: what is wanted is given each time, what is there is looked up,
so an engine that was killed leaves nothing that the next one could not take over.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from teul.linux import nftables
from teul.network import bridge as bridges
from teul.network.bridge import Bridge
from teul.network.firewall import forward_policy
from teul.network.firewall import table as firewall
from teul.network.ipam import DEFAULT_POOLS, Subnet
from teul.network.names import HostNames


class HostNetwork:
    """The host side of one engine's networks."""

    def __init__(self, names: HostNames, pools: Sequence[Subnet] = DEFAULT_POOLS) -> None:
        self.names = names
        self._pools = pools
        # A caller that is cancelled leaves its call running in a thread; making and removing must not cross.
        self._lock = threading.Lock()

    def ensure_bridge(self, *, recorded: Subnet | None, is_in_use: bool) -> Bridge:
        """See `bridge.ensure_bridge`. Raises NoFreeSubnet, too."""
        with self._lock:
            return bridges.ensure_bridge(self.names.bridge, self._pools, recorded=recorded, is_in_use=is_in_use)

    def ensure_firewall(self, networks: Sequence[Bridge]) -> None:
        """Bring address translation and isolation to what they should be for exactly these networks."""
        with self._lock:
            nftables.run(firewall.render_table(self.names.table, networks))
            forward_policy.ensure_forwarding(self.names.chain, [network.name for network in networks])

    def ensure_forwarding(self, networks: Sequence[Bridge]) -> None:
        """Let packets pass where another firewall drops by policy; worth repeating, for dockerd sets that when it starts."""
        with self._lock:
            forward_policy.ensure_forwarding(self.names.chain, [network.name for network in networks])

    def list_ports(self) -> list[str]:
        """Names of the links on the bridge."""
        return bridges.list_ports(self.names.bridge)

    def remove_ports(self, names: set[str]) -> list[str]:
        """Delete those of `names` that are still on the bridge; returns them."""
        return bridges.remove_ports(self.names.bridge, names)

    def remove(self) -> None:
        """Remove everything that the other methods make, as far as it is there. IP forwarding stays on: other programs may rely on it."""
        with self._lock:
            forward_policy.remove_forwarding(self.names.chain)
            nftables.run(firewall.render_removal(self.names.table))
            bridges.remove_bridge(self.names.bridge)
