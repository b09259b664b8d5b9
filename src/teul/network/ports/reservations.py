"""Ports of the host that an engine's containers hold: in memory, and by a socket each, so that no other process comes to have them.

The sockets take no traffic, see `teul.linux.reserved_ports`: what comes for a published port is led to its container before, but for what
is relayed.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from teul.linux import reserved_ports
from teul.network.ipam import Address
from teul.network.ports.plan import PortGroup

_RANGE_FILE, _RESERVED_FILE = "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/net/ipv4/ip_local_reserved_ports"


class PortAllocated(Exception):
    """A container of this engine has the port already."""

    def __init__(self, address: Address, port: int) -> None:
        super().__init__(f"{address}:{port}")
        self.address = address
        self.port = port


class NoFreePort(Exception):
    """Containers of this engine have all ports of the range."""


class BindError(OSError):
    """The host does not let us have the port. `errno` says why, and `action` what was tried (docker's words)."""

    def __init__(self, number: int, action: str) -> None:
        super().__init__(number, action)
        self.action = action


@dataclass(slots=True)
class Reservation:
    """A port on one address of the host; the holder releases it. Without a socket only this engine's own containers are kept from it."""

    address: Address
    protocol: str
    port: int
    socket: socket.socket | None


class Reservations:
    """The ports that are held. Safe for several threads; blocks no longer than the kernel needs to bind sockets."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], set[Address]] = {}
        self._last: dict[tuple[int, int], int] = {}  # by range, the port that was taken last
        self._lock = threading.Lock()

    def reserve(self, group: PortGroup) -> list[Reservation]:
        """Take a port of the group's range on all of its addresses, the next one after the last that was taken out of this range.

        Raises PortAllocated, NoFreePort, BindError; then nothing was taken.
        """
        with self._lock:
            if group.first and group.first == group.last:
                taken = self._taken(group, group.first)
                if taken is not None:
                    raise PortAllocated(taken, group.first)
                return self._bind(group, group.first)
            failure: BindError | None = None
            for port in self._candidates(group):
                if self._taken(group, port) is None:
                    try:
                        return self._bind(group, port)
                    except BindError as error:
                        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                            raise
                        failure = error
            raise failure or NoFreePort

    def restore(
        self, address: Address, protocol: str, port: int, made: socket.socket | None = None
    ) -> tuple[Reservation, BindError | None]:
        """Take a port that a running container has from an engine before this one, in memory whatever the host says about it.

        `made` is a copy of that engine's socket, if there is one, as it is.
        """
        with self._lock:
            failure: BindError | None = None
            try:
                made = made or _bound_socket(address, protocol, port)
            except BindError as error:
                failure = error
            self._held.setdefault((protocol, port), set()).add(address)
            return Reservation(address, protocol, port, made), failure

    def release(self, reservations: Iterable[Reservation]) -> None:
        """Give ports back. Idempotent."""
        with self._lock:
            for reservation in reservations:
                if reservation.socket is not None:
                    reservation.socket.close()
                    reservation.socket = None
                key = reservation.protocol, reservation.port
                held = self._held.get(key, set())
                held.discard(reservation.address)
                if not held:
                    self._held.pop(key, None)

    def _candidates(self, group: PortGroup) -> Iterator[int]:
        first, last = (group.first, group.last) if group.first else local_port_range()
        excluded = frozenset() if group.first else excluded_ports()
        begin = self._last.get((first, last), last) + 1
        for offset in range(last - first + 1):
            port = first + (begin - first + offset) % (last - first + 1)
            if port not in excluded:
                self._last[first, last] = port
                yield port

    def _taken(self, group: PortGroup, port: int) -> Address | None:
        """The first of the group's addresses on which the port is taken: by itself, or as one of all addresses."""
        held = self._held.get((group.protocol, port), set())
        return next((address for address in group.addresses if any(_meet(address, other) for other in held)), None)

    def _bind(self, group: PortGroup, port: int) -> list[Reservation]:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(_bound_socket(address, group.protocol, port)) for address in group.addresses]
            stack.pop_all()
        self._held.setdefault((group.protocol, port), set()).update(group.addresses)
        return [Reservation(address, group.protocol, port, made) for address, made in zip(group.addresses, sockets, strict=True)]


def _meet(one: Address, other: Address) -> bool:
    """Whether what is on one address is on the other, too."""
    return one.version == other.version and (one == other or one.is_unspecified or other.is_unspecified)


def local_port_range() -> tuple[int, int]:
    """Out of which ports the host gives one to who does not care."""
    with open(_RANGE_FILE, encoding="ascii") as file:
        first, last = file.read().split()
    return int(first), int(last)


def excluded_ports() -> frozenset[int]:
    """The ports that the host's administrator keeps out of that."""
    with open(_RESERVED_FILE, encoding="ascii") as file:
        return parse_reserved(file.read())


def parse_reserved(text: str) -> frozenset[int]:
    """The kernel's list of ports and ranges: `8080,9100-9102`."""
    ports: set[int] = set()
    for entry in text.strip().split(","):
        if entry:
            first, _, last = entry.partition("-")
            ports.update(range(int(first), int(last or first) + 1))
    return frozenset(ports)


def can_use_ipv6() -> bool:
    """Whether the host has IPv6 to listen at."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bound_socket(address: Address, protocol: str, port: int) -> socket.socket:
    place = f"{f'[{address}]' if address.version == 6 else address}:{port}/{protocol}"
    try:
        made = reserved_ports.open_socket(address.version, protocol)
    except OSError as error:
        raise BindError(error.errno or errno.EIO, f"failed to create socket for {place}") from error
    try:
        reserved_ports.bind(made, str(address), port)
    except OSError as error:
        made.close()
        raise BindError(error.errno or errno.EIO, f"failed to bind host port {place}") from error
    return made
