"""Scripts for nftables, one at a time: the library has state beside its contexts, and promises nothing for several threads at once."""

from __future__ import annotations

import threading

from teul.linux import nftables

_lock = threading.Lock()


def run(script: str) -> str:
    """As `teul.linux.nftables.run`."""
    with _lock:
        return nftables.run(script)
