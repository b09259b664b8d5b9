"""Scripts for nftables, one at a time: the library has state beside its contexts, and promises nothing for several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from teul.linux import nftables

_lock = threading.Lock()


def run(script: str, *, json: bool = False, handles: bool = False, terse: bool = False) -> str:
    """As `teul.linux.nftables.run`."""
    with _lock:
        return nftables.run(script, json=json, handles=handles, terse=terse)


def list_elements(table: str, names: Sequence[str]) -> dict[str, list[nftables.SetElement]]:
    """As `teul.linux.nftables.list_elements`, of a table of the family `inet`."""
    with _lock:
        return nftables.list_elements("inet", table, names)


class Session:
    """A line to nftables that stays, see `teul.linux.nftables.Session`; opened with the first script, in the caller's network namespace."""

    def __init__(self) -> None:
        self._session: nftables.Session | None = None

    def run(self, script: str) -> None:
        """As `teul.linux.nftables.run`."""
        with _lock:
            if self._session is None:
                self._session = nftables.Session()
            self._session.run(script)

    def close(self) -> None:
        """Idempotent; another script opens the line again."""
        with _lock:
            session, self._session = self._session, None
            if session is not None:
                session.close()
