"""A repository's endpoints, of which one after the other is tried, and each again when its trouble may pass."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from teul.errors import TeulError
from teul.registry.backoff import Backoff, OnWait
from teul.registry.client.session import EndpointSession
from teul.registry.errors import ConnectionFailed, Refused, RegistryError, Unreachable

log = logging.getLogger(__name__)

T = TypeVar("T")


class Exchange:
    """Operations on the repository `path` at the first of `sessions` that has what is asked for.

    An endpoint that cannot be reached, and a mirror where something goes wrong, is left out from then on; the last one is kept.
    docker: distribution/pull.go, pullEndpoints, which starts the whole pull again at the next.
    """

    def __init__(self, sessions: list[EndpointSession], path: str, backoff: Backoff, on_wait: OnWait | None = None) -> None:
        self.path = path
        self.backoff = backoff
        self._sessions = sessions
        self._on_wait = on_wait

    def telling(self, on_wait: OnWait) -> Exchange:
        """The same exchange, whose waits before something is tried again are told to `on_wait`."""
        return Exchange(self._sessions, self.path, self.backoff, on_wait)

    async def pause(self, seconds: float) -> None:
        """Wait before something is tried again."""
        await self.backoff.pause(seconds, self._on_wait)

    async def run(self, operation: Callable[[EndpointSession], Awaitable[T]]) -> T:
        """The result of `operation`, which may be done several times. Raises the last endpoint's error."""
        failures: list[TeulError] = []
        for session in list(self._sessions):
            try:
                return await self._retrying(lambda session=session: operation(session))  # type: ignore[misc]  # bound at once
            except TeulError as error:
                failures.append(error)
                if not (isinstance(error, Unreachable) or session.endpoint.is_mirror):
                    raise
                self.leave(session, error)
        raise failures[-1] if failures else RegistryError(f"no endpoints found for {self.path}")

    def leave(self, session: EndpointSession, error: TeulError) -> bool:
        """Go on without the endpoint of `session`, because of `error`. False if it is the last one, which is kept."""
        if session in self._sessions:  # one of several tasks is the first to notice
            if len(self._sessions) == 1:
                return False
            self._sessions.remove(session)
            log.info("going on without %s: %s", session.url, error.message)
        return True

    async def _retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of `attempt`, made again as the backoff says after a failure that may pass."""
        failures = 0
        while True:
            try:
                return await attempt()
            except (ConnectionFailed, Refused) as error:
                failures += 1
                wait = None if isinstance(error, Unreachable) else self.backoff.wait_seconds(failures, error)
                if wait is None:
                    raise
                log.info("asking a registry again in %.1f seconds: %s", wait, error.message)
            await self.pause(wait)
