"""The addresses of all networks in memory: who has which, and which are to be had."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Sequence

from teul.errors import Forbidden, InvalidParameter, Unavailable
from teul.model.network import Network
from teul.model.network_config import EndpointSettings
from teul.network.ipam import Address, AddressPool, AddressTaken, NoFreeAddress
from teul.services.networks.records import pools_of
from teul.store.metadata.networks import HeldAddresses

log = logging.getLogger(__name__)


class Addresses:
    """Pools by network, made when they are needed from what is held. Used from the event loop only."""

    def __init__(self) -> None:
        self._pools: dict[str, tuple[Network, list[AddressPool]]] = {}  # by the network's id

    def take(self, network: Network, container_id: str, requested: EndpointSettings | None, held: Sequence[HeldAddresses]) -> list[Address]:
        """An address of each IP version that the network has, for a container that holds none of it.

        `held` is what all containers hold of this network. Raises InvalidParameter, Forbidden if an address is taken, Unavailable if none
        is left; then nothing was taken.
        """
        wanted = _wanted(requested)
        for version, is_enabled in ((4, network.enable_ipv4), (6, network.enable_ipv6)):
            if version in wanted and not is_enabled:
                raise InvalidParameter(f"invalid endpoint settings:\nno configured subnet contains IP address {wanted[version]}")
        taken: list[tuple[AddressPool, Address]] = []
        try:
            for version, is_enabled in ((4, network.enable_ipv4), (6, network.enable_ipv6)):
                if is_enabled:
                    pools = [pool for pool in self._pools_of(network, held) if pool.subnet.version == version]
                    taken.append(_allocate(network, pools, container_id, version, wanted.get(version)))
        except BaseException:
            for pool, address in taken:
                pool.release(address, now_ns=time.monotonic_ns())
            raise
        return [address for _pool, address in taken]

    def give_back(self, held: HeldAddresses) -> None:
        """These addresses are free again; they rest before somebody else gets them."""
        _network, pools = self._pools.get(held.network_id, (None, []))
        for address in addresses_of(held):
            for pool in pools:
                if address.version == pool.subnet.version and address in pool.subnet:
                    pool.release(address, now_ns=time.monotonic_ns())

    def forget(self, network_id: str) -> None:
        """The network is no more."""
        self._pools.pop(network_id, None)

    def _pools_of(self, network: Network, held: Sequence[HeldAddresses]) -> list[AddressPool]:
        known, pools = self._pools.get(network.id, (None, []))
        if known is None or known.ipam != network.ipam:
            pools = pools_of(network)
            self._pools[network.id] = (network, pools)
            for each in held:
                _claim(network, pools, each)
        return pools


def addresses_of(held: HeldAddresses) -> list[Address]:
    """The addresses as such, IPv4 first."""
    return [ipaddress.ip_address(text) for text in (held.ipv4, held.ipv6) if text]


def _claim(network: Network, pools: Sequence[AddressPool], held: HeldAddresses) -> None:
    for address in addresses_of(held):
        pool = next((pool for pool in pools if address.version == pool.subnet.version and address in pool.subnet), None)
        try:
            if pool is None:
                raise AddressTaken
            pool.claim(address, held.container_id)
        except AddressTaken:
            log.warning("container %s holds %s, which is not of network %s", held.container_id, address, network.name)


def _wanted(requested: EndpointSettings | None) -> dict[int, Address]:
    config = requested.ipam_config if requested is not None else None
    if config is None:
        return {}
    wanted: dict[int, Address] = {}
    for version, text in ((4, config.ipv4_address), (6, config.ipv6_address)):
        try:
            address = ipaddress.ip_address(text) if text else None
        except ValueError:
            raise InvalidParameter(f"invalid IPv{version} address: {text}") from None
        if address is not None:
            wanted[version] = address
    return wanted


def _allocate(
    network: Network, pools: Sequence[AddressPool], container_id: str, version: int, wanted: Address | None
) -> tuple[AddressPool, Address]:
    now_ns = time.monotonic_ns()
    if wanted is not None:
        pools = [pool for pool in pools if wanted in pool.subnet]
        if not pools:
            raise InvalidParameter(f"invalid endpoint settings:\nno configured subnet contains IP address {wanted}")
    for pool in pools:
        try:
            return pool, pool.allocate(container_id, now_ns=now_ns, wanted=wanted)
        except AddressTaken:
            raise Forbidden("Address already in use") from None
        except NoFreeAddress:
            continue
    raise Unavailable(f"no available IPv{version} addresses on this network's address pools: {network.name} ({network.id})")
