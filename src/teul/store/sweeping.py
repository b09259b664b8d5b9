"""Removing what an interrupted work has left, when an engine starts: what refuses to go must not keep the engine from starting."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def logging_refusals(what: str) -> Iterator[None]:
    """Around a removal that nobody waits for: if it is refused, the log says so, and `what` stays.

    The next engine meets it again, so nothing is lost but room.
    """
    try:
        yield
    except OSError as error:
        log.error("%s could not be removed: %s", what, error)
