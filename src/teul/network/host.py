"""What the engine's networks are on the host, taken together: bridges, the nftables table, the chain in iptables, settings.

Every method blocks and raises `OSError`. Nothing here remembers: what is wanted is given each time, what is there is looked up,
so an engine that was killed leaves nothing that the next one could not take over.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Collection, Sequence

from teul.linux.netlink import conntrack
from teul.network import bridge as bridges
from teul.network.bridge import Bridge
from teul.network.firewall import forward_policy, ports, scripts
from teul.network.firewall import table as firewall
from teul.network.firewall.gate import EgressGate
from teul.network.firewall.linked import LinkGate
from teul.network.firewall.ports import Published
from teul.network.ipam import Subnet
from teul.network.names import HostNames
from teul.network.sysctls import Sysctls
from teul.network.wire import Wire, ensure_parent, remove_parent

log = logging.getLogger(__name__)


class HostNetwork:
    """The host side of one engine's networks."""

    def __init__(self, names: HostNames, *, settings_file: str) -> None:
        """`settings_file` keeps what the host's settings were, see `Sysctls`."""
        self.names = names
        self.egress = EgressGate(names.table)
        self.links = LinkGate(names.table)
        self._sysctls = Sysctls(settings_file)
        self._group = bridges.group_of(names.table)
        # A caller that is cancelled leaves its call running in a thread; making and removing must not cross.
        self._lock = threading.Lock()
        self._port_session = scripts.Session()

    def claimed_subnets(self, *, except_bridge: str = "") -> list[Subnet]:
        """What the host uses, see `bridge.claimed_subnets`."""
        return bridges.claimed_subnets(except_bridge=except_bridge)

    def ensure_bridge(self, bridge: Bridge, *, is_exclusive: bool = False) -> Bridge:
        """See `bridge.ensure_bridge`. Raises NotABridge and SubnetTaken, too."""
        with self._lock:
            return bridges.ensure_bridge(bridge, self._sysctls, group=self._group, is_exclusive=is_exclusive)

    def ensure_parent(self, wire: Wire) -> Wire:
        """See `wire.ensure_parent`. Raises ParentUnusable, too."""
        with self._lock:
            return ensure_parent(wire, group=self._group)

    def remove_link(self, side: Bridge | Wire) -> None:
        """Take a network's bridge, or its parent, from the host; one that the engine did not make stays. Idempotent."""
        with self._lock:
            if isinstance(side, Bridge):
                bridges.remove_bridge(side.name, group=self._group)
            else:
                remove_parent(side.parent, group=self._group)

    def remove_other_links(self, names: Sequence[str]) -> list[str]:
        """Delete the bridges and parents that the engine has made and that are not among `names`; returns theirs."""
        with self._lock:
            return bridges.remove_other_links(names, group=self._group)

    def ensure_firewall(self, networks: Sequence[Bridge]) -> None:
        """Bring the firewall to what it should be for exactly these networks. Published ports stay as they are."""
        with self._lock:
            scripts.run(firewall.render_table(self.names.table, networks))
            self._allow_loopback(networks)
            forward_policy.ensure_forwarding(self.names.chain, [network.name for network in networks])

    def add_to_firewall(self, bridge: Bridge, networks: Sequence[Bridge]) -> None:
        """Add one network; `networks` are all that there are then."""
        with self._lock:
            scripts.run(firewall.render_added(self.names.table, bridge))
            self._allow_loopback([bridge])
            forward_policy.ensure_forwarding(self.names.chain, [network.name for network in networks])

    def remove_from_firewall(self, bridge: Bridge, networks: Sequence[Bridge]) -> None:
        """Take one network out; `networks` are those that stay."""
        with self._lock:
            scripts.run(firewall.render_removed(self.names.table, bridge))
            forward_policy.ensure_forwarding(self.names.chain, [network.name for network in networks])

    def ensure_forwarding(self, networks: Sequence[Bridge]) -> None:
        """Let packets pass where another firewall drops by policy; worth repeating, for dockerd sets that when it starts."""
        with self._lock:
            forward_policy.ensure_forwarding(self.names.chain, [network.name for network in networks])

    # Ports are changed on the way of a start, which must not wait until iptables has been looked at: in one transaction, without the lock.

    def change_published(self, removed: Sequence[Published], added: Sequence[Published]) -> None:
        """Take ports out of the firewall and put others in. Fails, and changes nothing, with ENOENT if one is not there, or there is no
        firewall; with EEXIST if one is led elsewhere already."""
        table = self.names.table
        self._port_session.run(ports.render_withdrawn(table, removed) + ports.render_published(table, added))
        self._forget_senders({each.port for each in (*removed, *added) if each.protocol == "udp"})

    def set_published(self, wanted: Sequence[Published]) -> None:
        """Have exactly these ports published. Fails with ENOENT without a firewall."""
        self._port_session.run(ports.render_exactly(self.names.table, wanted))

    def close(self) -> None:
        """Let go of what is kept open for changes of ports, links and policies. Blocks."""
        self._port_session.close()
        self.links.close()
        self.egress.close()

    def list_ports(self, networks: Sequence[Bridge]) -> list[str]:
        """Names of the links on the bridges of these networks."""
        return bridges.list_ports([network.name for network in networks])

    def remove_ports(self, networks: Sequence[Bridge], names: Collection[str]) -> list[str]:
        """Delete those of `names` that are still on one of the bridges; returns them."""
        return bridges.remove_ports([network.name for network in networks], set(names))

    def remove(self) -> None:
        """Remove everything that the other methods make, as far as it is there.

        The administrator's rules stay, and the host's settings as long as it has other bridges, whose owners may rely on them.
        """
        with self._lock:
            forward_policy.remove_forwarding(self.names.chain)
            try:
                listing = scripts.run(firewall.render_user_chain(self.names.table))
            except FileNotFoundError:
                pass  # there is no such table
            else:
                scripts.run(firewall.render_removal(self.names.table, keeps_user=firewall.has_rules(listing)))
            self.egress.remove_guard()
            bridges.remove_bridges(self._group)
            if not bridges.list_other_bridges([]):
                self._sysctls.restore()

    def _forget_senders(self, udp_ports: set[int]) -> None:
        """Who was sending to these ports before is led to where they lead now."""
        if udp_ports:
            try:
                conntrack.forget(socket.IPPROTO_UDP, udp_ports)
            except OSError as error:
                log.warning("who sends to UDP ports that were published or given up may not notice at once: %s", error)

    def _allow_loopback(self, networks: Sequence[Bridge]) -> None:
        # What the firewall's chain `loopback` makes safe: answers to the host's own 127.0.0.1 by way of a published port.
        for network in networks:
            if any(segment.subnet.version == 4 and segment.host_address is not None for segment in network.segments):
                self._sysctls.ensure(f"net/ipv4/conf/{network.name}/route_localnet", "1", is_kept=False)
