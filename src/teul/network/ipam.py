"""Which subnet a network gets and which address a container gets. Pure: time and the host's routes come from the caller.

Addresses are handed out lowest first, as Docker does, but a released address rests for a while before another container gets it: the
kernel takes a dead container's link down some 10 to 50 ms after its last process, and until then the bridge would send the new owner's
packets there; replies to the dead container's connections may be on their way for longer. A container that comes back gets its old
address.
"""

from __future__ import annotations

import heapq
import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Sequence

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# docker: its default pools, in its order (moby daemon/libnetwork/ipamutils).
DEFAULT_POOLS: tuple[Subnet, ...] = (
    *(ipaddress.IPv4Network((f"172.{second}.0.0", 16)) for second in range(17, 32)),
    *ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)

REST_NS = 5_000_000_000

# A route as wide as this (10.0.0.0/8 counts, 0.0.0.0/1 does not) is a way to everywhere, as VPNs set it, not a claim to these addresses.
_SHORTEST_CLAIM = {4: 8, 6: 16}


class NoFreeSubnet(Exception):
    """Every pool overlaps something on the host."""


class NoFreeAddress(Exception):
    """Every address of the pool is held."""


class AddressTaken(Exception):
    """The address that was asked for is held by another owner, or is never handed out."""


def choose_subnet(pools: Iterable[Subnet], claimed: Sequence[Subnet]) -> Subnet:
    """The first pool that overlaps no claim. Raises NoFreeSubnet."""
    for pool in pools:
        if not overlaps(pool, claimed):
            return pool
    raise NoFreeSubnet


def overlaps(subnet: Subnet, claimed: Iterable[Subnet]) -> bool:
    """Whether any of `claimed` has addresses of `subnet`; default routes and their like claim nothing."""
    return any(
        other.version == subnet.version and other.prefixlen >= _SHORTEST_CLAIM[other.version] and subnet.overlaps(other)
        for other in claimed
    )


class AddressPool:
    """The addresses of one subnet. Not for several threads at once.

    Never handed out: network and broadcast address (IPv4), the subnet-router anycast address (IPv6), and `reserved`. Cost does not
    depend on how many are held.
    """

    def __init__(self, subnet: Subnet, *, reserved: Iterable[Address] = (), ip_range: Subnet | None = None) -> None:
        self.subnet = subnet
        scope = ip_range or subnet
        self._kind = type(subnet.network_address)
        self._first, self._last = int(scope.network_address), int(scope.broadcast_address)
        self._reserved = {int(address) for address in reserved} | {int(subnet.network_address)}
        if subnet.version == 4:
            self._reserved.add(int(subnet.broadcast_address))
        self._held: dict[int, str] = {}
        # Freed addresses below `_next`; may name some that were claimed since, which are skipped.
        self._freed: list[int] = []
        self._next = self._first
        self._resting: OrderedDict[int, tuple[int, str]] = OrderedDict()  # address: (since, last owner), oldest first

    def __len__(self) -> int:
        return len(self._held)

    def allocate(self, owner: str, *, now_ns: int, wanted: Address | None = None) -> Address:
        """An address for `owner`, who must give it back. Raises NoFreeAddress, or AddressTaken if `wanted` is not to be had."""
        if wanted is not None:
            self.claim(wanted, owner)
            return wanted
        number = self._resting_of(owner)
        if number is None:
            self._wake(now_ns)
            number = self._lowest_free()
        if number is None:
            # Better an address that has not rested than none.
            number = next(iter(self._resting), None)
        if number is None:
            raise NoFreeAddress
        self._resting.pop(number, None)
        self._held[number] = owner
        return self._kind(number)

    def claim(self, address: Address, owner: str) -> None:
        """Hold this very address. Raises AddressTaken if another owner holds it, or it is outside the subnet or reserved."""
        number = int(address)
        holder = self._held.get(number, owner)
        if address.version != self.subnet.version or address not in self.subnet or number in self._reserved or holder != owner:
            raise AddressTaken
        self._resting.pop(number, None)
        self._held[number] = owner

    def release(self, address: Address, *, now_ns: int) -> None:
        """Give an address back. Nothing happens if it is not held."""
        number = int(address)
        owner = self._held.pop(number, None)
        if owner is not None:
            self._resting[number] = (now_ns, owner)

    def _resting_of(self, owner: str) -> int | None:
        # Few addresses rest at a time: those released within the last seconds.
        return next((number for number, (_since, last) in self._resting.items() if last == owner), None)

    def _wake(self, now_ns: int) -> None:
        while self._resting:
            number, (since_ns, _owner) = next(iter(self._resting.items()))
            if now_ns - since_ns < REST_NS:
                return
            del self._resting[number]
            heapq.heappush(self._freed, number)

    def _lowest_free(self) -> int | None:
        while self._freed:
            number = heapq.heappop(self._freed)
            if self._is_free(number) and self._first <= number <= self._last:
                return number
        while self._next <= self._last:
            number, self._next = self._next, self._next + 1
            if self._is_free(number):
                return number
        return None

    def _is_free(self, number: int) -> bool:
        return number not in self._held and number not in self._reserved and number not in self._resting
