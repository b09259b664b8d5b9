"""Which subnet a network gets and which address a container gets. Pure: time and the host's routes come from the caller.

Addresses are handed out lowest first, as Docker does, but a released address rests for a while before another container gets it: the
kernel takes a dead container's link down some 10 to 50 ms after its last process, and until then the bridge would send the new owner's
packets there; replies to the dead container's connections may be on their way for longer. A container that comes back gets its old
address.
"""

from __future__ import annotations

import hashlib
import heapq
import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Pool:
    """A stretch of addresses that is cut into subnets of prefix length `size`, taken from below."""

    base: Subnet
    size: int


# docker: its default pools, in its order (moby daemon/libnetwork/ipamutils).
DEFAULT_POOLS: tuple[Pool, ...] = (
    *(Pool(ipaddress.IPv4Network((f"172.{second}.0.0", 16)), 16) for second in range(17, 32)),
    Pool(ipaddress.IPv4Network("192.168.0.0/16"), 20),
)

REST_NS = 5_000_000_000

# A route as wide as this (10.0.0.0/8 counts, 0.0.0.0/1 does not) is a way to everywhere, as VPNs set it, not a claim to these addresses.
_SHORTEST_CLAIM = {4: 8, 6: 16}


class NoFreeSubnet(Exception):
    """Every pool overlaps something on the host."""


class NoSuchPool(Exception):
    """No pool has subnets of the size that was asked for."""


class NoFreeAddress(Exception):
    """Every address of the pool is held."""


class AddressTaken(Exception):
    """The address that was asked for is held by another owner, or is never handed out."""


def local_pool(seed: str) -> Pool:
    """The IPv6 pool of a host where none was configured: subnets /64 of a unique local prefix (RFC 4193) that follows from `seed`."""
    prefix = b"\xfd" + hashlib.sha256(seed.encode()).digest()[:5]
    return Pool(ipaddress.IPv6Network((prefix + bytes(10), 48)), 64)


def choose_subnet(pools: Iterable[Pool], claimed: Sequence[Subnet], *, version: int = 4, size: int | None = None) -> Subnet:
    """The first free subnet of the pools of IP `version`, of prefix length `size` in place of the pools' own if it is given.

    Raises NoFreeSubnet, or NoSuchPool if no pool has subnets of that size.
    """
    candidates = [Pool(pool.base, size or pool.size) for pool in pools if pool.base.version == version]
    candidates = [pool for pool in candidates if pool.base.prefixlen <= pool.size <= pool.base.max_prefixlen]
    if not candidates:
        raise NoSuchPool
    relevant = [claim for claim in claimed if claim.version == version and claim.prefixlen >= _SHORTEST_CLAIM[version]]
    spans = sorted((int(claim.network_address), int(claim.broadcast_address)) for claim in relevant)
    for pool in candidates:
        step = 1 << (pool.base.max_prefixlen - pool.size)
        start, last = int(pool.base.network_address), int(pool.base.broadcast_address)
        for claim_first, claim_last in spans:
            if claim_last < start:
                continue
            if claim_first > start + step - 1:
                break
            start = (claim_last // step + 1) * step  # the first subnet that begins behind this claim
        if start + step - 1 <= last:
            return ipaddress.ip_network((start, pool.size)) if version == 4 else ipaddress.IPv6Network((start, pool.size))
    raise NoFreeSubnet


def unusable(subnet: Subnet) -> set[int]:
    """The addresses of a subnet that no host can have."""
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if subnet.version == 6:
        return {first}
    return {first, last} if subnet.prefixlen < 31 else set()


def first_usable(subnet: Subnet, scope: Subnet | None = None) -> Address:
    """The lowest address that a host can have, in `scope` if that is given: the gateway, unless somebody says otherwise."""
    scope = scope or subnet
    number = int(scope.network_address)
    while number in unusable(subnet):
        number += 1
    return type(subnet.network_address)(number)


def overlaps(subnet: Subnet, claimed: Iterable[Subnet]) -> bool:
    """Whether any of `claimed` has addresses of `subnet`; default routes and their like claim nothing."""
    return any(
        other.version == subnet.version and other.prefixlen >= _SHORTEST_CLAIM[other.version] and subnet.overlaps(other)
        for other in claimed
    )


class AddressPool:
    """The addresses of one subnet. Not for several threads at once.

    Never handed out: network and broadcast address (IPv4, but for the two addresses of a /31 and the one of a /32), the subnet-router
    anycast address (IPv6), and `reserved`. Cost does not depend on how many are held.
    """

    def __init__(self, subnet: Subnet, *, reserved: Iterable[Address] = (), ip_range: Subnet | None = None) -> None:
        self.subnet = subnet
        scope = ip_range or subnet
        self._kind = type(subnet.network_address)
        self._first, self._last = int(scope.network_address), int(scope.broadcast_address)
        self._reserved = {int(address) for address in reserved} | unusable(subnet)
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
