"""A place for what is unfinished: directories below `<root>/tmp`, on the same filesystem as everything that they may become.

What is whole is renamed from here to where it belongs. All the rest is worth nothing, so an engine begins by emptying the place.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from teul.aio import SlowWork, run_blocking, run_to_end
from teul.store.atomic import remove_tree
from teul.store.sweeping import logging_refusals


class Workspace:
    """The directory `path` and what is being made in it."""

    def __init__(self, path: str, slow: SlowWork) -> None:
        self.path = path
        self._slow = slow

    def open(self) -> None:
        """Make the directory if need be, and empty it. Blocks. Only before anything is made in it.

        security: nobody but root looks in: what is unpacked here has set-id programs and device nodes.
        """
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        os.chmod(self.path, 0o700)
        for name in os.listdir(self.path):
            with logging_refusals(f"unfinished work {name}"):
                remove_tree(os.path.join(self.path, name))

    @asynccontextmanager
    async def directory(self) -> AsyncIterator[str]:
        """A new directory of the caller's; gone at the end with all that is in it, also if the caller is cancelled."""
        path = os.path.join(self.path, uuid.uuid4().hex)
        try:
            await run_blocking(os.mkdir, path, 0o700)
            yield path
        finally:
            await run_to_end(self._slow.run(remove_tree, path))
