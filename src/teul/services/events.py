"""What happens in the engine, told to whoever wants to know.

Publishing never waits: every subscriber has a queue of its own, and a subscriber that does not keep up loses what it has not read, and is
told so by one event in its place. The last `HISTORY_EVENTS` events are kept for subscribers who ask about the past.
Source: moby daemon/events (events.go, filter.go).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from types import TracebackType
from typing import Protocol, Self

from teul.model.container import Container
from teul.model.event import Event
from teul.model.filter import Filters
from teul.model.network import Network
from teul.oci.digest import Digest
from teul.oci.image_config import ImageDocument

HISTORY_EVENTS = 256
QUEUE_EVENTS = 1024

# docker: these actions carry details behind a colon, which a filter need not name.
_ACTIONS_WITH_DETAILS = frozenset({"health_status", "exec_create", "exec_start"})
_ACTORS = ("daemon", "container", "plugin", "volume", "network", "service", "node", "secret", "config")


class EventSink(Protocol):
    """Where events go; `Events` is one."""

    def publish(self, event: Event) -> None: ...


class Events:
    """The publisher. Used from the event loop only."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY_EVENTS)
        self._subscriptions: set[Subscription] = set()

    @property
    def listeners(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscriptions)

    def publish(self, event: Event) -> None:
        """Tell everybody who is listening. Never waits."""
        self._history.append(event)
        for subscription in self._subscriptions:
            subscription.offer(event)

    def subscribe(
        self, since_ns: int | None = None, until_ns: int | None = None, filters: Filters | None = None, *, queue_events: int = QUEUE_EVENTS
    ) -> Subscription:
        """Listen from now on, and to the kept events from `since_ns` on; without `since_ns` and `until_ns`, to new events only.

        Nothing that is published after this call is missed. The iteration ends at `until_ns`. Use it in a `with` block.
        """
        subscription = Subscription(self._subscriptions, until_ns, filters or Filters(), queue_events)
        if since_ns is not None or until_ns is not None:
            for event in self._history:
                if event.time_ns >= (since_ns or 0):
                    subscription.offer(event)
        return subscription


class Subscription:
    """One listener: an asynchronous iterator over events, registered while it is open."""

    def __init__(self, registry: set[Subscription], until_ns: int | None, filters: Filters, queue_events: int) -> None:
        self._registry = registry
        self._until_ns = until_ns
        self._filters = filters
        self._queue: deque[Event] = deque()
        self._queue_events = queue_events
        self._lost = 0
        self._arrived = asyncio.Event()
        registry.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._registry.discard(self)

    def offer(self, event: Event) -> None:
        """Queue `event` if the listener asked for it; if the queue is full, all of it becomes one event that counts those lost."""
        if (self._until_ns is not None and event.time_ns > self._until_ns) or not matches(event, self._filters):
            return
        if len(self._queue) >= self._queue_events:
            self._lost += len(self._queue)
            self._queue.clear()
        self._queue.append(event)
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            async with asyncio.timeout(self._seconds_left()):
                while not self._queue:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise StopAsyncIteration from None
        if self._lost:
            lost, self._lost = self._lost, 0
            return Event(type="daemon", action="events_lost", actor_id="", attributes={"count": str(lost)})
        return self._queue.popleft()

    def _seconds_left(self) -> float | None:
        if self._until_ns is None or self._queue:
            return None
        return max(0.0, (self._until_ns - time.time_ns()) / 1e9)


def container_event(container: Container, action: str, **attributes: str) -> Event:
    """An event of `container`: its labels, image and name are always told, and the `attributes` that belong to the action."""
    config = container.config
    told = {**(config.labels or {}), **attributes, "image": container.image_reference, "name": container.name}
    return Event("container", action, container.id, told)


def network_event(network: Network, action: str, **attributes: str) -> Event:
    """An event of `network`: its name and its driver are told, and the `attributes` that belong to the action."""
    return Event("network", action, network.id, {**attributes, "name": network.name, "type": network.driver})


def image_event(image_id: Digest, document: ImageDocument, action: str, *, name: str | None = None) -> Event:
    """An event of an image: its labels and its name are told. docker: most actions give the id for a name."""
    labels = (document.config.labels if document.config is not None else None) or {}
    return Event("image", action, str(image_id), {**labels, "name": name or str(image_id)})


def matches(event: Event, filters: Filters) -> bool:
    """Whether `event` is among what `filters` ask for."""
    return not filters or (
        _matches_action(event, filters)
        and filters.exact("type", event.type)
        and filters.exact("scope", "local")
        and all(_matches_actor(event, actor, filters) for actor in _ACTORS if actor in filters)
        and _matches_image(event, filters)
        and filters.pairs("label", event.attributes)
    )


def _matches_action(event: Event, filters: Filters) -> bool:
    if not _ACTIONS_WITH_DETAILS.isdisjoint(filters.get("event")):
        return filters.fuzzy("event", event.action)
    return filters.exact("event", event.action)


def _matches_actor(event: Event, actor: str, filters: Filters) -> bool:
    # docker: the filter is not held against the event's type; `container=x` also finds the network event of a container named x.
    return filters.fuzzy(actor, event.actor_id) or filters.fuzzy(actor, event.attributes.get("name", ""))


def _matches_image(event: Event, filters: Filters) -> bool:
    if "image" not in filters:
        return True
    name = event.attributes.get("name" if event.type == "image" else "image", "")
    candidates = (event.actor_id, name, _strip_tag(event.actor_id), _strip_tag(name))
    return any(filters.exact("image", candidate) for candidate in candidates)


def _strip_tag(image: str) -> str:
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]
