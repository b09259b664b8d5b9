"""Events: nobody waits for a listener, and a listener is told what it missed."""

from __future__ import annotations

import asyncio
import time

import pytest

from teul.model.event import Event
from teul.model.filter import Filters
from teul.oci.digest import Digest
from teul.oci.image_config import ImageConfig, ImageDocument
from teul.services.events import HISTORY_EVENTS, Events, Subscription, image_event, matches


def event(action: str = "start", time_ns: int | None = None, **attributes: str) -> Event:
    return Event("container", action, "abc123", {"name": "box", "image": "local/shell:latest", **attributes}, time_ns or time.time_ns())


async def take(subscription: Subscription, count: int) -> list[Event]:
    async with asyncio.timeout(2):
        return [await anext(subscription) for _ in range(count)]


async def test_what_is_published_after_subscribing_is_not_missed() -> None:
    events = Events()
    events.publish(event("create"))
    with events.subscribe() as subscription:
        events.publish(event("start"))
        events.publish(event("die"))
        assert [found.action for found in await take(subscription, 2)] == ["start", "die"]
        assert events.listeners == 1
    assert events.listeners == 0


async def test_the_past_is_told_from_since_on() -> None:
    events = Events()
    for number in range(5):
        events.publish(event(f"a{number}", time_ns=1000 + number))
    with events.subscribe(since_ns=1003) as subscription:
        assert [found.action for found in await take(subscription, 2)] == ["a3", "a4"]


async def test_until_in_the_past_ends_the_stream() -> None:
    events = Events()
    events.publish(event("old", time_ns=1000))
    events.publish(event("older than until", time_ns=2000))
    with events.subscribe(until_ns=1500) as subscription:
        assert [found.action async for found in subscription] == ["old"]


async def test_until_in_the_future_ends_the_stream_when_it_comes() -> None:
    events = Events()
    with events.subscribe(until_ns=time.time_ns() + 50_000_000) as subscription:
        events.publish(event("now"))
        async with asyncio.timeout(2):
            assert [found.action async for found in subscription] == ["now"]


async def test_only_the_last_events_are_remembered() -> None:
    events = Events()
    for number in range(HISTORY_EVENTS + 10):
        events.publish(event(f"a{number}", time_ns=1 + number))
    with events.subscribe(since_ns=0) as subscription:
        assert (await take(subscription, 1))[0].action == "a10"


async def test_a_slow_listener_is_told_how_much_it_lost() -> None:
    events = Events()
    with events.subscribe(queue_events=4) as slow, events.subscribe() as quick:
        for number in range(6):
            events.publish(event(f"a{number}"))
        marker, *rest = await take(slow, 3)
        assert (marker.type, marker.action, marker.attributes) == ("daemon", "events_lost", {"count": "4"})
        assert [found.action for found in rest] == ["a4", "a5"]
        assert len(await take(quick, 6)) == 6


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"event": ["exec_start"]}, True),
        ({"event": ["exec_start: ls"]}, True),
        ({"event": ["die"]}, False),
        ({"container": ["abc"]}, True),
        ({"container": ["box"]}, True),
        ({"container": ["other"]}, False),
        ({"image": ["local/shell"]}, True),
        ({"image": ["local/shell:latest"]}, True),
        ({"image": ["local/other"]}, False),
        ({"label": ["tier=web"]}, True),
        ({"label": ["tier=db"]}, False),
        ({"scope": ["local"]}, True),
        ({"scope": ["swarm"]}, False),
        ({"type": ["container"], "event": ["die"]}, False),
    ],
)
def test_filters(filters: dict[str, list[str]], wanted: bool) -> None:
    assert matches(event("exec_start: ls", tier="web"), Filters(filters)) is wanted


def test_an_image_is_told_by_its_labels_and_its_name() -> None:
    """docker: where an action concerns no name, the id stands in its place."""
    image_id = Digest.of(b"config")
    labelled = ImageDocument(config=ImageConfig(labels={"tier": "web"}))
    event = image_event(image_id, labelled, "tag", name="a:1")
    assert (event.type, event.action, event.actor_id) == ("image", "tag", str(image_id))
    assert event.attributes == {"tier": "web", "name": "a:1"}
    assert image_event(image_id, ImageDocument(), "delete").attributes == {"name": str(image_id)}
