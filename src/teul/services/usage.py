"""Who uses what: which containers stand on an image, or are on a network.

An index of one kind of things, kept current by those who use them: the registry of containers declares what a container uses, and
withdraws it with the record. So the services of the things used (images and networks, which are further down) know the users without
knowing where their records are kept, and nobody looks through all containers. The index has the live records, which are never out of date.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from teul.model.container import Container

K = TypeVar("K", bound=Hashable)


class Usage(Generic[K]):
    """The containers that use things of one kind, by the things' keys. In memory only; used from the event loop only."""

    def __init__(self) -> None:
        self._users: dict[K, dict[str, Container]] = {}
        self._used: dict[str, frozenset[K]] = {}  # by container id

    def declare(self, container: Container, things: Iterable[K]) -> None:
        """From now on `container`, which must be the live record, uses these `things` and no others."""
        self.withdraw(container)
        self._used[container.id] = frozenset(things)
        for thing in self._used[container.id]:
            self._users.setdefault(thing, {})[container.id] = container

    def withdraw(self, container: Container) -> None:
        """From now on `container` uses nothing. Idempotent."""
        for thing in self._used.pop(container.id, ()):
            users = self._users[thing]
            del users[container.id]
            if not users:
                del self._users[thing]

    def users(self, thing: K) -> list[Container]:
        """The containers that use `thing`, newest first."""
        return sorted(self._users.get(thing, {}).values(), key=lambda container: container.created_at_ns, reverse=True)

    def count(self, thing: K) -> int:
        """How many containers use `thing`."""
        return len(self._users.get(thing, ()))

    def is_used(self, thing: K) -> bool:
        """Whether any container uses `thing`, in whatever state it is."""
        return thing in self._users
