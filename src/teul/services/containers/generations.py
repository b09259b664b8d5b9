"""The generations of a name: which containers had it, why each went, and which can be gone back to. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from teul.errors import Conflict, NotFound
from teul.model.container import Container
from teul.model.renewal import KEEP_LABEL, MOST_GENERATIONS, Generation, Settings

REPLACED = "replaced"
_LONGEST_RESULT = 300


def generations_of(container: Container) -> list[Generation]:
    """All that are known, oldest first, the container's own among them, also before anything was recorded."""
    return container.generations or [
        Generation(
            number=1,
            container_id=container.id,
            image_id=container.image_id,
            image_reference=container.image_reference,
            began_at_ns=container.created_at_ns,
        )
    ]


def kept_generations(container: Container, default: int) -> int:
    """How many former generations can be gone back to: as its label says, if that is a number."""
    text = (container.config.labels or {}).get(KEEP_LABEL, "")
    return int(text) if text.isascii() and text.isdigit() else default


def succeeded(
    former: Container, successor: Container, settings: Settings, *, changes: Sequence[str], keep: int, now_ns: int
) -> list[Generation]:
    """Those of `successor`, which has the name now; `settings` are its predecessor's. The latest `keep` can be gone back to."""
    before = generations_of(former)
    ended = [
        msgspec.structs.replace(each, result=REPLACED, settings=settings) if each.container_id == former.id and not each.result else each
        for each in before
    ]
    return _trimmed([*ended, _next(before, successor, changes, now_ns)], keep)


def failed(former: Container, successor: Container, *, reason: str, changes: Sequence[str], now_ns: int) -> list[Generation]:
    """Those of `former`, which has its name still, or again."""
    before = generations_of(former)
    attempt = msgspec.structs.replace(_next(before, successor, changes, now_ns), result=f"failed: {reason[:_LONGEST_RESULT]}")
    return _trimmed([*before, attempt], MOST_GENERATIONS)


def find_generation(container: Container, number: int | None) -> Generation:
    """The one to go back to: the latest, or that of the number. Raises NotFound, or Conflict if nothing is kept of it."""
    former = [each for each in container.generations if each.container_id != container.id]
    if number is None:
        latest = next((each for each in reversed(former) if each.settings is not None), None)
        if latest is None:
            raise NotFound(f"container {container.name} has no generation to go back to")
        return latest
    chosen = next((each for each in former if each.number == number), None)
    if chosen is None:
        raise NotFound(f"container {container.name} has no generation {number} to go back to")
    if chosen.settings is None:
        raise Conflict(f"generation {number} of container {container.name} is not kept any more: {chosen.result}")
    return chosen


def _next(before: Sequence[Generation], successor: Container, changes: Sequence[str], now_ns: int) -> Generation:
    return Generation(
        number=max(each.number for each in before) + 1,
        container_id=successor.id,
        image_id=successor.image_id,
        image_reference=successor.image_reference,
        began_at_ns=now_ns,
        changes=tuple(changes),
    )


def _trimmed(generations: Sequence[Generation], keep: int) -> list[Generation]:
    kept = [each.number for each in generations if each.settings is not None]
    dropped = set(kept[: max(0, len(kept) - keep)])
    trimmed = [msgspec.structs.replace(each, settings=None) if each.number in dropped else each for each in generations]
    # The present one and those that can be gone back to stay, however many attempts have failed since.
    spare = [each for each in trimmed if each.settings is None and each.result]
    gone = {each.number for each in spare[: max(0, len(trimmed) - MOST_GENERATIONS)]}
    return [each for each in trimmed if each.number not in gone]
